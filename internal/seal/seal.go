// Package seal keeps secrets at rest: it encrypts them for the rows of the database with the installation's secrets key,
// and makes further secrets of that key.
package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"shareai/internal/account"
	"shareai/internal/fault"
)

// What is sealed is
//
//	version (1 byte) | id of the secrets key (4 bytes) | nonce (12) | ciphertext | tag (16)
//
// with AES-256-GCM. What is authenticated beside the text are the first two parts and the names of the
// secret and of what it belongs to, so that a sealed value can not be moved to another row. The id tells a value that
// another secrets key sealed from one that was damaged.
const (
	version    = 1
	idSize     = 4
	headerSize = 1 + idSize
)

// secretsFile is the generated secrets key in the data directory.
const secretsFile = "secrets.key"

// Box seals and opens secrets.
type Box struct {
	header [headerSize]byte
	aead   cipher.AEAD
	source string // where the secrets key came from, for people
	seed   []byte // of the secrets that are made of the secrets key
}

// New makes a box of the secrets key. If that is empty, the key is in the file secrets.key in dir, which has to exist; the
// file is made when it is missing.
func New(key account.Secret, dir string) (*Box, error) {
	if !key.Empty() {
		return newBox(key, "secrets_key")
	}
	key, err := keyInFile(filepath.Join(dir, secretsFile))
	if err != nil {
		return nil, fault.New(fault.Unavailable, "secrets_key_unavailable",
			"The secrets key can not be read from or written to "+secretsFile+" in data_dir. Check its owner and permissions, or set secrets_key.").Because(err)
	}
	return newBox(key, secretsFile+" in data_dir")
}

func newBox(key account.Secret, source string) (*Box, error) {
	derived := func(purpose string, size int) []byte {
		out, err := hkdf.Key(sha256.New, []byte(key.Reveal()), nil, "shareai provider keys "+purpose, size)
		if err != nil {
			panic(err) // only for a size beyond 255 hashes
		}
		return out
	}
	block, err := aes.NewCipher(derived("v1", 32))
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	s := &Box{aead: aead, source: source, seed: derived("seed", 32)}
	s.header[0] = version
	copy(s.header[1:], derived("id", idSize))
	return s, nil
}

// Seal encrypts a secret. What it belongs to, and its name there, are authenticated with it.
func (b *Box) Seal(secret account.Secret, provider, name string) []byte {
	return b.aead.Seal(b.header[:], nil, []byte(secret.Reveal()), b.binding(provider, name))
}

// Open decrypts a secret. The error is a *fault.Error.
func (b *Box) Open(sealed []byte, provider, name string) (account.Secret, error) {
	refuse := func(why string) (account.Secret, error) {
		return account.Secret{}, fault.New(fault.Internal, "secrets_key_mismatch",
			fmt.Sprintf("The key %q of provider %q can not be opened: %s.", name, provider, why))
	}
	if len(sealed) < headerSize || sealed[0] != version {
		return refuse("it was sealed by another version of this program, or damaged")
	}
	if !bytes.Equal(sealed[:headerSize], b.header[:]) {
		return refuse("it was sealed with another secrets key than " + b.source +
			". Give every replica the secrets_key, or the file " + secretsFile + ", with which it was stored")
	}
	plain, err := b.aead.Open(nil, nil, sealed[headerSize:], b.binding(provider, name))
	if err != nil {
		return refuse("its row was changed or damaged. Store the key again")
	}
	return account.NewSecret(string(plain)), nil
}

// binding is the authenticated data. Names have no zero bytes (account.CheckName).
func (b *Box) binding(provider, name string) []byte {
	return fmt.Appendf(b.header[:headerSize:headerSize], "%s\x00%s", provider, name)
}

// keyInFile reads the secrets key from a file, which it generates when it is missing.
func keyInFile(path string) (account.Secret, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := generateKeyFile(path); err != nil {
			return account.Secret{}, err
		}
		text, err = os.ReadFile(path)
	}
	if err != nil {
		return account.Secret{}, err
	}
	text = bytes.TrimSpace(text)
	if len(text) == 0 {
		return account.Secret{}, errors.New("the file is empty")
	}
	return account.NewSecret(string(text)), nil
}

// generateKeyFile writes a new secrets key. The file appears as a whole or not at all; when another
// process was faster, its key stays.
func generateKeyFile(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), secretsFile+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.WriteString(rand.Text() + rand.Text() + "\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// Derive makes a secret of the secrets key for a purpose: the same one on every replica that has that key.
func (b *Box) Derive(purpose string) []byte {
	out, err := hkdf.Key(sha256.New, b.seed, nil, "shareai "+purpose, sha256.Size)
	if err != nil {
		panic(err) // only for a size beyond 255 hashes
	}
	return out
}
