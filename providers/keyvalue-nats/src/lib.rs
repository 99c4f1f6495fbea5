//! trellis-keyvalue-nats
