// Package cli holds the commands of shareai: flags in, text or JSON out. A command is a struct with its
// flags and a Run method; what it does lives in the packages below it.
//
// Results go to standard output, as text for people or with --json as one JSON document. Everything
// else goes to standard error: the log, and an error in one line with a second one that says what to do.
// Run returns the exit code: 0 for success, 1 for a failure, 2 for a command line that makes no sense.
//
// Every flag can be set by an environment variable, SHAREAI_ and its name; the flag wins.
package cli
