//! trellis-lattice-tests
