// Checker walks a whole Almoner ledger that is served over HTTP, with the code of Go's checksum database
// (golang.org/x/mod/sumdb/tlog and sumdb/note) and none of Almoner's own.
//
//	checker [-state FILE] [-random N] URL VKEY
//
// URL is the address that ends in /ledger, VKEY the log's verifier key line. It checks
//
//   - the signature and form of the checkpoint (C2SP signed-note, tlog-checkpoint);
//   - every entry bundle: whole entries, and their links (seq, prev, time);
//   - every hash tile, also the last one of each level at every narrower width: its bytes are those that sumdb/tlog
//     computes from the entries alone, and so is the signed root;
//   - inclusion of random entries and consistency with random earlier sizes, proved by sumdb/tlog over its own
//     authenticating tile reader;
//   - that tiles may be cached for ever, the checkpoint may not, and nothing is served beyond the end;
//   - with -state, that the log still begins with the checkpoint that FILE holds from the run before; the new one is kept
//     there.
//
// Two things differ from the checksum database and are written here: paths have no tile height (tile/<L>/<N>), and the
// root of the empty tree is the hash of nothing (RFC 6962 §2.1).
//
// Exit codes: 0 all agrees, 1 something does not, 2 wrong usage, 3 the log could not be reached.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	height     = 8
	width      = 1 << height
	fetchers   = 8
	problemMax = 20
)

func main() {
	state := flag.String("state", "", "file with the checkpoint of the run before, which is brought up to date")
	random := flag.Int("random", 200, "random proofs of each kind")
	flag.Usage = func() { fmt.Fprintln(os.Stderr, "usage: checker [-state FILE] [-random N] URL VKEY") }
	flag.Parse()
	if flag.NArg() != 2 {
		flag.Usage()
		os.Exit(2)
	}
	begun := time.Now()
	c := &checker{base: strings.TrimSuffix(flag.Arg(0), "/"), seen: map[string]bool{}}
	c.client.Timeout = time.Minute
	c.client.Transport = &http.Transport{MaxIdleConnsPerHost: fetchers, DisableCompression: true}
	c.run(flag.Arg(1), *state, *random)
	for i, problem := range c.problems {
		if i == problemMax {
			fmt.Printf("WRONG   and %d more\n", len(c.problems)-i)
			break
		}
		fmt.Printf("WRONG   %s\n", problem)
	}
	switch {
	case len(c.problems) > 0:
		fmt.Println("NOT INTACT")
		os.Exit(1)
	case c.unreached != nil:
		fmt.Printf("COULD NOT BE CHECKED: %v\n", c.unreached)
		os.Exit(3)
	}
	fmt.Printf("intact: %d entries, %d files, %d inclusion and %d consistency proofs by sumdb/tlog, %.1f s\n",
		c.tree.N, c.files, c.inclusions, c.consistencies, time.Since(begun).Seconds())
}

type checker struct {
	base   string
	client http.Client
	tree   tlog.Tree
	// The hash of every entry, in order.
	hashes []tlog.Hash
	// The first link and the times of every bundle.
	edges []edge

	files, inclusions, consistencies int

	lock      sync.Mutex
	problems  []string
	seen      map[string]bool
	unreached error
}

type edge struct {
	whole       bool
	prev        string
	first, last string
}

func (c *checker) wrong(format string, args ...any) {
	c.lock.Lock()
	defer c.lock.Unlock()
	// What is read twice is told once.
	if problem := fmt.Sprintf(format, args...); !c.seen[problem] {
		c.seen[problem] = true
		c.problems = append(c.problems, problem)
	}
}

// Run walks the log; what it finds stands in c.problems.
func (c *checker) run(vkey, state string, random int) {
	signed, tree, err := c.checkpoint(vkey)
	if err != nil {
		c.failed("checkpoint", err)
		return
	}
	c.tree = tree
	c.entries()
	c.links()
	if len(c.problems) == 0 && c.unreached == nil {
		c.tiles()
		c.beyond()
		c.proofs(random)
		c.known(vkey, state)
	} else {
		c.blame()
	}
	if state != "" && len(c.problems) == 0 && c.unreached == nil {
		if err := os.WriteFile(state, signed, 0o644); err != nil {
			c.failed(state, err)
		}
	}
}

// Failed tells trouble with a file: an answer that is wrong, or none.
func (c *checker) failed(path string, err error) {
	var lost *unreachable
	if errors.As(err, &lost) {
		c.lock.Lock()
		defer c.lock.Unlock()
		if c.unreached == nil {
			c.unreached = fmt.Errorf("%s: %w", path, err)
		}
		return
	}
	c.wrong("%s: %v", path, err)
}

type unreachable struct{ cause error }

func (u *unreachable) Error() string { return u.cause.Error() }

// Get reads one file and holds its headers against what it may be cached for.
func (c *checker) get(path string, immutable bool) ([]byte, error) {
	answer, err := c.client.Get(c.base + "/" + path)
	if err != nil {
		return nil, &unreachable{err}
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 4<<20))
	if err != nil {
		return nil, &unreachable{err}
	}
	if answer.StatusCode >= 500 || answer.StatusCode == 429 {
		return nil, &unreachable{errors.New(answer.Status)}
	}
	if answer.StatusCode != 200 {
		return nil, fmt.Errorf("the server answers %s", answer.Status)
	}
	if cache := answer.Header.Get("Cache-Control"); strings.Contains(cache, "immutable") != immutable {
		return nil, fmt.Errorf("Cache-Control is %q", cache)
	}
	if encoding := answer.Header.Get("Content-Encoding"); encoding != "" {
		return nil, fmt.Errorf("Content-Encoding is %q, though none was asked for", encoding)
	}
	c.lock.Lock()
	c.files++
	c.lock.Unlock()
	return body, nil
}

// Path is that of C2SP tlog-tiles: without a height, and only the last group of digits without an x. Level -1 is that of
// the entry bundles.
func path(level int, n int64, w int) string {
	digits := fmt.Sprintf("%03d", n%1000)
	for n >= 1000 {
		n /= 1000
		digits = fmt.Sprintf("x%03d/%s", n%1000, digits)
	}
	name := "entries"
	if level >= 0 {
		name = strconv.Itoa(level)
	}
	if w < width {
		return fmt.Sprintf("tile/%s/%s.p/%d", name, digits, w)
	}
	return fmt.Sprintf("tile/%s/%s", name, digits)
}

// Checkpoint reads and verifies the checkpoint: a signed note of three lines and extensions.
func (c *checker) checkpoint(vkey string) ([]byte, tlog.Tree, error) {
	signed, err := c.get("checkpoint", false)
	if err != nil {
		return nil, tlog.Tree{}, err
	}
	tree, err := open(signed, vkey)
	return signed, tree, err
}

func open(signed []byte, vkey string) (tlog.Tree, error) {
	verifier, err := note.NewVerifier(strings.TrimSpace(vkey))
	if err != nil {
		return tlog.Tree{}, err
	}
	opened, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, err
	}
	lines := strings.Split(strings.TrimSuffix(opened.Text, "\n"), "\n")
	if len(lines) < 3 || lines[0] != verifier.Name() {
		return tlog.Tree{}, errors.New("the signed text is no checkpoint of this log")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return tlog.Tree{}, errors.New("the signed text has no size")
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return tlog.Tree{}, err
	}
	return tlog.Tree{N: size, Hash: root}, nil
}

// Each runs work for 0 to n-1, some at a time.
func each(n int64, work func(int64)) {
	var wait sync.WaitGroup
	next := make(chan int64)
	for i := 0; i < fetchers; i++ {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for i := range next {
				work(i)
			}
		}()
	}
	for i := int64(0); i < n; i++ {
		next <- i
	}
	close(next)
	wait.Wait()
}

// Entries reads every bundle and hashes every entry.
func (c *checker) entries() {
	c.hashes = make([]tlog.Hash, c.tree.N)
	bundles := (c.tree.N + width - 1) / width
	c.edges = make([]edge, bundles)
	each(bundles, func(n int64) {
		count := c.tree.N - n*width
		if count > width {
			count = width
		}
		path := path(-1, n, int(count))
		data, err := c.get(path, true)
		if err != nil {
			c.failed(path, err)
			return
		}
		records, err := split(data)
		if err == nil && int64(len(records)) != count {
			err = fmt.Errorf("it holds %d entries", len(records))
		}
		if err != nil {
			c.wrong("%s: %v", path, err)
			return
		}
		for i, record := range records {
			c.hashes[n*width+int64(i)] = tlog.RecordHash(record)
		}
		c.read(path, n, records)
	})
}

func split(data []byte) ([][]byte, error) {
	var records [][]byte
	for len(data) > 0 {
		if len(data) < 2 || len(data) < 2+int(binary.BigEndian.Uint16(data)) {
			return nil, errors.New("its last entry is cut")
		}
		length := int(binary.BigEndian.Uint16(data))
		records = append(records, data[2:2+length])
		data = data[2+length:]
	}
	return records, nil
}

// Read holds the leaves of a bundle against their place and each other.
func (c *checker) read(path string, n int64, records [][]byte) {
	last := ""
	c.edges[n].whole = true
	for i, record := range records {
		seq := n*width + int64(i)
		var leaf struct {
			Seq  *int64
			Prev string
			Time string
		}
		if err := json.Unmarshal(record, &leaf); err != nil || leaf.Seq == nil {
			c.wrong("%s: entry %d is no leaf", path, seq)
			continue
		}
		if *leaf.Seq != seq {
			c.wrong("%s: entry %d says that it is %d", path, seq, *leaf.Seq)
		}
		if i == 0 {
			c.edges[n].prev, c.edges[n].first = leaf.Prev, leaf.Time
		} else if before := c.hashes[seq-1]; leaf.Prev != hex.EncodeToString(before[:]) {
			c.wrong("%s: entry %d does not carry the hash of entry %d", path, seq, seq-1)
		}
		// RFC 3339 in UTC with milliseconds: the order of the texts is the order of the times.
		if leaf.Time < last {
			c.wrong("%s: entry %d is earlier than entry %d", path, seq, seq-1)
		}
		last = leaf.Time
	}
	c.edges[n].last = last
}

// Links holds the first leaf of every bundle against the bundle before.
func (c *checker) links() {
	for n, e := range c.edges {
		var before tlog.Hash
		if n > 0 {
			if !e.whole || !c.edges[n-1].whole {
				continue
			}
			before = c.hashes[n*width-1]
			if e.first < c.edges[n-1].last {
				c.wrong("entry %d is earlier than entry %d", n*width, n*width-1)
			}
		}
		if e.whole && e.prev != hex.EncodeToString(before[:]) {
			c.wrong("entry %d does not carry the hash of the entry before", n*width)
		}
	}
}

// Blame says which entries have another hash than the server's leaf-hash tiles have.
func (c *checker) blame() {
	for n := range c.edges {
		count := len(c.hashes) - n*width
		if count > width {
			count = width
		}
		if !c.edges[n].whole {
			continue
		}
		path := path(0, int64(n), count)
		data, err := c.get(path, true)
		if err != nil || len(data) != count*tlog.HashSize {
			continue
		}
		for i := 0; i < count; i++ {
			hash := c.hashes[n*width+i]
			if !bytes.Equal(hash[:], data[i*tlog.HashSize:(i+1)*tlog.HashSize]) {
				c.wrong("entry %d is not the one that %s has the hash of", n*width+i, path)
			}
		}
	}
}

// Tiles computes the whole tree by sumdb/tlog and holds every tile and the root against it.
func (c *checker) tiles() {
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		found := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			found[i] = stored[index]
		}
		return found, nil
	})
	for i, hash := range c.hashes {
		more, err := tlog.StoredHashesForRecordHash(int64(i), hash, reader)
		if err != nil {
			c.wrong("the tree cannot be computed: %v", err)
			return
		}
		stored = append(stored, more...)
	}
	root := tlog.Hash(sha256.Sum256(nil))
	if c.tree.N > 0 {
		root, _ = tlog.TreeHash(c.tree.N, reader)
	}
	if root != c.tree.Hash {
		c.wrong("checkpoint: the signed root is %v, that of the entries is %v", c.tree.Hash, root)
	}
	tiles := every(c.tree.N)
	each(int64(len(tiles)), func(i int64) {
		tile := tiles[i]
		path := path(tile.L, tile.N, tile.W)
		data, err := c.get(path, true)
		if err != nil {
			c.failed(path, err)
			return
		}
		if computed, err := tlog.ReadTileData(tile, reader); err != nil || !bytes.Equal(data, computed) {
			c.wrong("%s: its hashes are not those of the entries", path)
		}
	})
	c.narrower()
}

// Every lists the tiles of a tree, the last one of each level at every width up to its own.
func every(size int64) []tlog.Tile {
	tiles := tlog.NewTiles(height, 0, size)
	have := map[tlog.Tile]bool{}
	for _, tile := range tiles {
		have[tile] = true
	}
	for _, last := range tiles {
		for w := 1; last.W < width && w < last.W; w++ {
			if tile := (tlog.Tile{H: height, L: last.L, N: last.N, W: w}); !have[tile] {
				have[tile] = true
				tiles = append(tiles, tile)
			}
		}
	}
	return tiles
}

// Narrower reads the last bundle at every width up to its own.
func (c *checker) narrower() {
	n, last := c.tree.N/width, int(c.tree.N%width)
	each(int64(last), func(i int64) {
		path := path(-1, n, int(i)+1)
		data, err := c.get(path, true)
		if err != nil {
			c.failed(path, err)
			return
		}
		records, err := split(data)
		if err != nil || len(records) != int(i)+1 {
			c.wrong("%s: it does not hold %d entries", path, i+1)
			return
		}
		for at, record := range records {
			if tlog.RecordHash(record) != c.hashes[n*width+int64(at)] {
				c.wrong("%s: entry %d is another than in the wider bundle", path, n*width+int64(at))
			}
		}
	})
}

// Beyond asks for what the log does not have yet.
func (c *checker) beyond() {
	n, w := c.tree.N/width, int(c.tree.N%width)
	for _, path := range []string{path(0, n, width), path(-1, n, width), path(0, n, w+1), path(-1, n+1, 1)} {
		answer, err := c.client.Get(c.base + "/" + path)
		if err != nil {
			c.failed(path, &unreachable{err})
			continue
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusNotFound {
			c.wrong("%s: the server answers %s to what is beyond its checkpoint", path, answer.Status)
		}
	}
}

// Tiles of the server for sumdb/tlog, which authenticates them and says which are to be kept.
type served struct {
	c    *checker
	kept map[tlog.Tile][]byte
}

func (s served) Height() int { return height }

func (s served) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		data, have := s.kept[tile]
		if !have {
			var err error
			if data, err = s.c.get(path(tile.L, tile.N, tile.W), true); err != nil {
				return nil, err
			}
		}
		all = append(all, data)
	}
	return all, nil
}

func (s served) SaveTiles(tiles []tlog.Tile, data [][]byte) {
	for i, tile := range tiles {
		s.kept[tile] = data[i]
	}
}

// Proofs proves and checks random inclusions and consistencies over authenticated tiles of the server.
func (c *checker) proofs(random int) {
	if c.tree.N == 0 {
		return
	}
	reader := tlog.TileHashReader(c.tree, served{c, map[tlog.Tile][]byte{}})
	for i := 0; i < random; i++ {
		n := rand.Int63n(c.tree.N)
		proof, err := tlog.ProveRecord(c.tree.N, n, reader)
		if err == nil {
			err = tlog.CheckRecord(proof, c.tree.N, c.tree.Hash, n, c.hashes[n])
		}
		if err != nil {
			c.failed(fmt.Sprintf("inclusion of entry %d", n), err)
			return
		}
		c.inclusions++
		old := 1 + rand.Int63n(c.tree.N)
		root, err := tlog.TreeHash(old, reader)
		if err == nil {
			err = c.consistent(old, root, reader)
		}
		if err != nil {
			c.failed(fmt.Sprintf("consistency with size %d", old), err)
			return
		}
		c.consistencies++
	}
}

func (c *checker) consistent(old int64, root tlog.Hash, reader tlog.HashReader) error {
	proof, err := tlog.ProveTree(c.tree.N, old, reader)
	if err != nil {
		return err
	}
	return tlog.CheckTree(proof, c.tree.N, c.tree.Hash, old, root)
}

// Known holds the log against the checkpoint that was kept.
func (c *checker) known(vkey, state string) {
	kept, err := os.ReadFile(state)
	if err != nil {
		return
	}
	old, err := open(kept, vkey)
	switch {
	case err != nil:
		c.wrong("%s: %v", state, err)
	case old.N > c.tree.N:
		c.wrong("the log has %d entries, and had %d before", c.tree.N, old.N)
	case old.N == 0:
	default:
		if err := c.consistent(old.N, old.Hash, tlog.TileHashReader(c.tree, served{c, map[tlog.Tile][]byte{}})); err != nil {
			c.failed("the log does not begin with the "+base64.StdEncoding.EncodeToString(old.Hash[:])+" that was kept", err)
			return
		}
		c.consistencies++
	}
}
