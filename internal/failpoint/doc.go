// Package failpoint names the places in which a crash leaves the most interesting
// states behind. In a binary that was built with the tag failpoint, [Hit] kills
// the process at the place and time that its environment names, as SIGKILL would;
// test/crash goes through all of them. In any other binary it is nothing at all.
//
// Such a binary reads two variables. HFCS_FAILPOINT is the place to die at, with
// #n for the n-th time that somebody comes by. HFCS_FAILPOINT_LOG is a file to
// which each place is added, a line each, when somebody comes by.
package failpoint
