//! Where components and providers come from.
