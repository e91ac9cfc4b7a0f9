//! The stateless iSCSI layer: portals, connections, LUN execution and the router to the stores.
