//! Tests come with the next slice.
