// Package install lets a machine become a node with one command: it serves the scripts /install.sh and /install.ps1, and
// the programs that they fetch, below /download/. A script carries the checksums of what it fetches, so that a mirror or
// a proxy between can not exchange it unseen.
//
// What is served lies in one folder, as `make dist` makes it, beside its file SHA256SUMS. Without the folder the
// gateway serves its own program, which is the agent as well, to machines like its own.
package install
