// Package watch tells which folders below a root have changed and have been quiet since. It is made for a cache of many repositories: each entry of the root
// that is wanted is one unit, reported by its name, and only its folders are looked at, never its files.
//
// Two sources tell of changes. Notifications of the system come at once, where there are any. Rescans compare the modification times of the known folders
// every few minutes; they are the truth on network file systems, after notifications were lost, and where the system's limits leave folders without. A folder whose
// time has not changed has the same entries, so a rescan costs one call of the system for each folder.
//
// A change is no reason to act at once: a unit is reported after nothing has happened in it for a while. Units that nobody has taken yet are a set, so a busy
// reader costs no memory.
package watch
