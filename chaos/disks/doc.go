// Package disks breaks disks, and proves that it has.
//
// A [Volume] is an ext4 file system in a file, mounted by a loop device, whose
// power can be cut: what was not flushed is lost, as on a machine whose plug is
// pulled. A [Canary] shows for each cut that it was one: a file written without
// fsync just before must be lost, one with fsync must survive. A [Tmpfs] is a
// disk that is full when the test wants it. [Corruptions] edit the files of a
// stopped node, and [ReadContent] tells whether what a node relies on has
// changed by it.
//
// Volumes and tmpfs need root; [Possible] says where they are not to be had. A
// process that was killed leaves its mounts behind: the next one that uses the
// package takes them away (see [Reap]).
package disks
