//! Membership drivers: who belongs to the cluster, kept in an agreed, durable ledger.
