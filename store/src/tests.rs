//! What the store does for those who ask it.

mod checking;
mod crashes;
mod damage;
mod faults;
mod harness;
mod hooked;
mod moments;
mod node_disks;
mod read_modify_write;
mod reading;
mod requests;
mod restart;
mod service;
mod shortage;
mod space;
mod upgrade;
