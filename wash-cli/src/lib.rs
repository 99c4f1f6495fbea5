//! wash
