// Package cli is the command line: one file per command, each an options struct, a constructor and a run method. All flags are checked before any work begins.
//
// It is the only package that reads the environment, prints results and decides exit codes. Results go to standard output; progress, notes and errors to
// standard error. Every error ends as one line "hf-cache-sync: <what failed>: <why>" and, where there is one, a line "hint: <what to type next>".
package cli
