// Package archtest holds the tree to its architecture by an ordinary test: which
// of our packages may import which, who may speak S3, and who may touch the
// process's environment, its exit and its standard output.
//
// The rules stand in one table in the test. The depguard rules in .golangci.yml
// say the same to an editor; the test fails when the two differ. It reads source
// files and runs no other program, so that it sees the files of every operating
// system, not only of the one it runs on.
package archtest
