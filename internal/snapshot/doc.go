// Package snapshot compiles declarations (the configuration file and the rows of the store) into one
// immutable view with a revision. Compiling is validating: what does not compile never replaces what
// is running. A request reads one Snapshot from beginning to end.
package snapshot
