package raftnode

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
)

// The library's meta.json holds the checksum of a snapshot's content, and none of
// itself: an index, a term or an address with a flipped bit would still be JSON.
// So its own checksum stands beside it, written once the library has finished.

// metaSumFile holds the CRC-32C of meta.json, as eight hexadecimal digits.
const metaSumFile = "meta.sum"

// errMeta says that a snapshot's meta.json is not as it was written.
var errMeta = errors.New("meta.json is not what " + metaSumFile + " says")

// sumMeta notes the checksum of a finished snapshot's meta.json, durably.
func sumMeta(dir string) error {
	sum, err := metaSum(dir)
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, metaSumFile), []byte(sum))
}

// verifyMeta compares. A snapshot without a sum is taken as it is: the node died
// between the library's last step and ours, or an earlier version wrote it.
func verifyMeta(dir string) error {
	want, err := os.ReadFile(filepath.Join(dir, metaSumFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	got, err := metaSum(dir)
	if err == nil && got != string(want) {
		err = fmt.Errorf("%w: %s, not %q", errMeta, got, want)
	}
	return err
}

func metaSum(dir string) (string, error) {
	meta, err := os.ReadFile(filepath.Join(dir, "meta.json"))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%08x", crc32.Checksum(meta, castagnoli)), nil
}
