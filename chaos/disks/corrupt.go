package disks

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Damage is a way in which bytes go wrong.
type Damage string

// The ways.
const (
	FlippedBit Damage = "flipped-bit"
	Truncated  Damage = "truncated"
	ZeroedPage Damage = "zeroed-page"
	StaleCopy  Damage = "stale-copy" // of the whole file, from an older copy of the directory
	Removed    Damage = "removed"
)

// Part is what of a node's data directory is damaged.
type Part string

// The parts.
const (
	PartLog      Part = "log"
	PartStable   Part = "term-and-vote"
	PartSnapshot Part = "snapshot"
	PartIdentity Part = "identity"
	// PartDirectory is all of it: for StaleCopy alone, a machine set back to an
	// older snapshot of itself.
	PartDirectory Part = "directory"
)

// Damages and Parts are all that a file can suffer, for whoever goes through each
// pair.
var (
	Damages = []Damage{FlippedBit, Truncated, ZeroedPage, StaleCopy, Removed}
	Parts   = []Part{PartLog, PartStable, PartSnapshot, PartIdentity}
)

// Corruption is a damage that was done.
type Corruption struct {
	Damage Damage
	Part   Part
	File   string // below the data directory
	Detail string
}

func (c Corruption) String() string {
	return fmt.Sprintf("%s of the %s: %s: %s", c.Damage, c.Part, c.File, c.Detail)
}

// ErrNothing means that the directory holds nothing to damage in this way, no
// snapshot for one.
var ErrNothing = errors.New("there is nothing to damage in this way")

// pageBytes is a page of bbolt's, and of most file systems.
const pageBytes = 4096

// Corrupt damages a part of a stopped node's data directory. older is an older
// copy of it, for StaleCopy. Where it strikes is drawn at random, mostly among
// bytes that say something.
func Corrupt(random *rand.Rand, dir, older string, damage Damage, part Part) (Corruption, error) {
	if part == PartDirectory {
		return setBack(dir, older, damage)
	}
	files, err := filesOf(dir, part)
	if err != nil {
		return Corruption{}, err
	}
	if len(files) == 0 {
		return Corruption{}, ErrNothing
	}
	file := files[random.IntN(len(files))]
	c := Corruption{Damage: damage, Part: part, File: file}
	path := filepath.Join(dir, file)
	switch damage {
	case FlippedBit:
		c.Detail, err = flipBit(random, path, part)
	case Truncated:
		c.Detail, err = truncate(random, path)
	case ZeroedPage:
		c.Detail, err = zeroPage(random, path, part)
	case StaleCopy:
		c.File, c.Detail, err = putBack(dir, older, part)
	case Removed:
		c.Detail, err = "gone", os.Remove(path)
	}
	if err != nil && !errors.Is(err, ErrNothing) {
		err = fmt.Errorf("damage %s (%s): %w", path, damage, err)
	}
	return c, err
}

// setBack puts an older copy in the place of a whole directory.
func setBack(dir, older string, damage Damage) (Corruption, error) {
	if damage != StaleCopy {
		return Corruption{}, ErrNothing
	}
	err := errors.Join(emptyDir(dir), CopyDir(dir, older))
	return Corruption{Damage: damage, Part: PartDirectory, File: ".", Detail: "all of it as it was"}, err
}

// emptyDir removes what a directory holds, not itself: it may be a mount.
func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name() == "lost+found" {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

// filesOf lists the files that hold a part, below dir.
func filesOf(dir string, part Part) ([]string, error) {
	var patterns []string
	switch part {
	case PartLog:
		patterns = []string{"log.db", "wal/*.wal"}
	case PartStable:
		patterns = []string{"log.db", "wal/wal-meta.db"}
	case PartIdentity:
		patterns = []string{"identity.json"}
	case PartSnapshot:
		latest, err := latestSnapshot(dir)
		if err != nil || latest == "" {
			return nil, err
		}
		patterns = []string{"snapshots/" + latest + "/*"}
	}
	var files []string
	for _, pattern := range patterns {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return nil, err
		}
		for _, path := range found {
			file, err := filepath.Rel(dir, path)
			if err != nil {
				return nil, err
			}
			files = append(files, file)
		}
	}
	return files, nil
}

// flipBit changes one bit.
func flipBit(random *rand.Rand, path string, part Part) (string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	at, ok := pickByte(random, content, part)
	if !ok {
		return "", ErrNothing
	}
	bit := byte(1) << random.IntN(8)
	was := content[at]
	if err := writeAt(path, int64(at), []byte{was ^ bit}); err != nil {
		return "", err
	}
	return fmt.Sprintf("byte %d (page %d) was %#02x, is %#02x", at, at/pageBytes, was, was^bit), nil
}

// stableKeys stand before the values of term and vote in every store.
var stableKeys = []string{"QuorateVote", "CurrentTerm"}

// pickByte draws a byte: for term and vote one of theirs, else mostly one that
// is not zero, since most of a log's file is room for later.
func pickByte(random *rand.Rand, content []byte, part Part) (int, bool) {
	if len(content) == 0 {
		return 0, false
	}
	if part == PartStable {
		if places := placesOf(content, stableKeys); len(places) > 0 {
			at := places[random.IntN(len(places))] + random.IntN(64)
			return min(at, len(content)-1), true
		}
	}
	if random.IntN(8) == 0 {
		return random.IntN(len(content)), true
	}
	pages := livePages(content)
	if len(pages) == 0 {
		return 0, false
	}
	page := pages[random.IntN(len(pages))]
	chunk := content[page*pageBytes : min(len(content), (page+1)*pageBytes)]
	for {
		if i := random.IntN(len(chunk)); chunk[i] != 0 {
			return page*pageBytes + i, true
		}
	}
}

// placesOf returns where any of the words stands.
func placesOf(content []byte, words []string) []int {
	var places []int
	for _, word := range words {
		for from := 0; ; {
			i := bytes.Index(content[from:], []byte(word))
			if i < 0 {
				break
			}
			places = append(places, from+i)
			from += i + len(word)
		}
	}
	slices.Sort(places)
	return places
}

// livePages are the pages that hold anything.
func livePages(content []byte) []int {
	var pages []int
	zeros := make([]byte, pageBytes)
	for page := 0; page*pageBytes < len(content); page++ {
		if chunk := content[page*pageBytes : min(len(content), (page+1)*pageBytes)]; !bytes.Equal(chunk, zeros[:len(chunk)]) {
			pages = append(pages, page)
		}
	}
	return pages
}

// truncate cuts the file off within what it holds.
func truncate(random *rand.Rand, path string) (string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	used := len(bytes.TrimRight(content, "\x00"))
	if used == 0 {
		return "", ErrNothing
	}
	size := random.IntN(used)
	return fmt.Sprintf("%d of %d bytes are left", size, len(content)), os.Truncate(path, int64(size))
}

// zeroPage makes a page, or a small file whole, zero.
func zeroPage(random *rand.Rand, path string, part Part) (string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	pages := livePages(content)
	if places := placesOf(content, stableKeys); part == PartStable && len(places) > 0 {
		pages = []int{places[random.IntN(len(places))] / pageBytes}
	}
	if len(pages) == 0 {
		return "", ErrNothing
	}
	page := pages[random.IntN(len(pages))]
	size := min(pageBytes, len(content)-page*pageBytes)
	return fmt.Sprintf("page %d of %d that hold anything", page, len(pages)), writeAt(path, int64(page)*pageBytes, make([]byte, size))
}

func writeAt(path string, at int64, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(content, at)
	return errors.Join(err, f.Sync(), f.Close())
}

// putBack puts the older copy of what holds a part in its place: a file, or the
// directory that is one to the store.
func putBack(dir, older string, part Part) (file, detail string, err error) {
	candidates := map[Part][]string{
		PartLog: {"log.db", "wal"}, PartStable: {"log.db", "wal/wal-meta.db"},
		PartSnapshot: {"snapshots"}, PartIdentity: {"identity.json"},
	}
	for _, file := range candidates[part] {
		from := filepath.Join(older, file)
		info, err := os.Stat(from)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return file, "", err
		}
		to := filepath.Join(dir, file)
		if err := os.RemoveAll(to); err != nil {
			return file, "", err
		}
		return file, "as it was at " + info.ModTime().Format("15:04:05.000"), copyPath(to, from, info)
	}
	return "", "", ErrNothing
}

func copyPath(to, from string, info fs.FileInfo) error {
	if info.IsDir() {
		return CopyDir(to, from)
	}
	return copyFile(to, from)
}

// CopyDir copies a directory whose files nobody writes. Holes stay holes: logs
// are mostly room for later.
func CopyDir(to, from string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		file, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, file)
		switch {
		case entry.IsDir() && entry.Name() == "lost+found":
			return fs.SkipDir
		case entry.IsDir():
			return os.MkdirAll(target, 0o700)
		case entry.Type().IsRegular():
			return copyFile(target, path)
		}
		return nil
	})
}

func copyFile(to, from string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	for _, page := range livePages(content) {
		at := page * pageBytes
		if _, err := f.WriteAt(content[at:min(len(content), at+pageBytes)], int64(at)); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return errors.Join(f.Truncate(int64(len(content))), f.Close())
}

// latestSnapshot returns the name of the latest snapshot of a data directory,
// "" when it has none. Names are term-index-milliseconds.
func latestSnapshot(dir string) (string, error) {
	entries, err := os.ReadDir(filepath.Join(dir, "snapshots"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	latest, order := "", []uint64(nil)
	for _, entry := range entries {
		if !entry.IsDir() || strings.HasSuffix(entry.Name(), ".tmp") {
			continue
		}
		is := make([]uint64, 3)
		if _, err := fmt.Sscanf(entry.Name(), "%d-%d-%d", &is[0], &is[1], &is[2]); err != nil {
			continue
		}
		if latest == "" || slices.Compare(is, order) > 0 {
			latest, order = entry.Name(), is
		}
	}
	return latest, err
}
