package install

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
)

// Download is a file that a machine can fetch.
type Download struct {
	Platform string // as in platforms: "linux_amd64"
	Name     string // of the file
	SHA256   string // hexadecimal
	path     string
}

// packaged is the name of an archive that `make dist` makes, which carries the platform.
var packaged = regexp.MustCompile(`^shareai_[A-Za-z0-9.+~-]+_((?:linux|darwin|windows)_(?:amd64|arm64))\.(?:tar\.gz|zip)$`)

// sums is the file of a release with the checksums of the others.
const sums = "SHA256SUMS"

// release lists what lies in a folder as SHA256SUMS says. No folder is an empty one.
func release(dir string) ([]Download, error) {
	if dir == "" {
		return nil, nil
	}
	f, err := os.Open(filepath.Join(dir, sums))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var list []Download
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		sum, name, ok := strings.Cut(lines.Text(), "  ")
		m := packaged.FindStringSubmatch(name)
		if raw, err := hex.DecodeString(sum); !ok || m == nil || err != nil || len(raw) != sha256.Size {
			continue // packages for package managers stand there as well
		}
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			list = append(list, Download{Platform: m[1], Name: name, SHA256: sum, path: path})
		}
	}
	return list, lines.Err()
}

// own is the running program as a download.
type own struct {
	program, platform string
	once              sync.Once
	found             Download
	err               error
}

// get hashes the program when it is first asked for.
func (o *own) get() (Download, error) {
	o.once.Do(func() {
		f, err := os.Open(o.program)
		if err != nil {
			o.err = err
			return
		}
		defer func() { _ = f.Close() }()
		h := sha256.New()
		if _, o.err = io.Copy(h, f); o.err != nil {
			return
		}
		sum := hex.EncodeToString(h.Sum(nil))
		// The name changes with the program, so that nobody between keeps an old one.
		o.found = Download{Platform: o.platform, Name: fmt.Sprintf("shareai_%s_%s", sum[:12], o.platform), SHA256: sum, path: o.program}
	})
	return o.found, o.err
}
