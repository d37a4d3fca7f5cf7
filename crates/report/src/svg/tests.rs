//! Tests of the layout; written below.
