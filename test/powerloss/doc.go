// Package powerloss takes the power away from the binary, at every moment at
// which that makes a difference.
//
// A program under test cannot see what a power loss would leave, because the
// system shows it all that was written, synced or not. So the binary is run once
// under ptrace, the calls by which it makes, writes, names and syncs files are
// recorded with their order, and then disks are built as they could have been
// found: what was not synced is lost or damaged, what was not ordered is out of
// order. Each such disk is audited, and the ordinary binary is run on it, which
// must finish and be right.
//
// # The disk
//
// What a call has done is certain to be found only after a sync that began when
// the call had ended, and that has itself come to its end:
//
//   - The bytes and the length of a file need an fsync or fdatasync of that file,
//     or a syncfs. Until then the file can be found at its full length with
//     nothing in it, empty, or with some of its blocks. Linux promises no more:
//     fsync(2), syncfs(2); sync_file_range(2) is no sync, as its page says
//     ("Warning").
//   - A name that was made, given or taken away needs an fsync of its folder, or
//     a syncfs: "Calling fsync() does not necessarily ensure that the entry in the
//     directory containing the file has also reached disk. For that an explicit
//     fsync() on a file descriptor for the directory is also needed" (fsync(2)).
//     A rename is kept or lost as a whole, and an fsync of either folder keeps it.
//   - A name can reach the disk before the bytes, and before other names that were
//     made earlier.
//
// That is more pessimistic than any of the file systems that people use. ext4
// with data=ordered writes a file's new blocks before the transaction that makes
// them its own, but not those that fallocate had given it already, and lengths
// come late where allocation is delayed (Documentation/filesystems/ext4: "data=",
// "auto_da_alloc"). XFS journals folders in order and promises nothing about
// bytes. Btrfs writes a log of single files and folders on fsync, in which one
// change can overtake another. [Keep] says which of the names are kept: all of
// them, as ext4 and XFS would have it, or some, as POSIX would let them.
//
// What a disk does that loses what it said it had written is not modelled.
//
// It runs without privileges, wherever a process may trace its own child, on
// Linux 5.3 and newer. Elsewhere the package has no tests.
package powerloss
