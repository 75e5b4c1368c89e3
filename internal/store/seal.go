package store

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

// A sealed provider key is
//
//	version (1 byte) | id of the secrets key (4 bytes) | nonce (12) | ciphertext | tag (16)
//
// with AES-256-GCM. What is authenticated beside the text are the first two parts and the names of
// provider and key, so that a sealed value can not be moved to another row. The id tells a value that
// another secrets key sealed from one that was damaged.
const (
	sealVersion = 1
	sealIDSize  = 4
	sealHeader  = 1 + sealIDSize
)

// secretsFile is the generated secrets key in the data directory.
const secretsFile = "secrets.key"

// sealer seals and opens provider keys.
type sealer struct {
	header [sealHeader]byte
	aead   cipher.AEAD
	source string // where the secrets key came from, for people
	seed   []byte // of the secrets that are made of the secrets key
}

// openSealer takes the secrets key of the options, or the one in the data directory.
func openSealer(o Options) (*sealer, error) {
	if !o.SecretsKey.Empty() {
		return newSealer(o.SecretsKey, "secrets_key")
	}
	if err := makeDataDir(o.DataDir); err != nil {
		return nil, err
	}
	path := filepath.Join(o.DataDir, secretsFile)
	key, err := keyInFile(path)
	if err != nil {
		return nil, fault.New(fault.Unavailable, "secrets_key_unavailable",
			"The secrets key can not be read from or written to "+secretsFile+" in data_dir. Check its owner and permissions, or set secrets_key.").Because(err)
	}
	return newSealer(key, secretsFile+" in data_dir")
}

func newSealer(key account.Secret, source string) (*sealer, error) {
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
	s := &sealer{aead: aead, source: source, seed: derived("seed", 32)}
	s.header[0] = sealVersion
	copy(s.header[1:], derived("id", sealIDSize))
	return s, nil
}

// seal encrypts a provider key for its row.
func (s *sealer) seal(secret account.Secret, provider, name string) []byte {
	return s.aead.Seal(s.header[:], nil, []byte(secret.Reveal()), s.binding(provider, name))
}

// open decrypts a provider key of a row.
func (s *sealer) open(sealed []byte, provider, name string) (account.Secret, error) {
	refuse := func(why string) (account.Secret, error) {
		return account.Secret{}, fault.New(fault.Internal, "secrets_key_mismatch",
			fmt.Sprintf("The key %q of provider %q can not be opened: %s.", name, provider, why))
	}
	if len(sealed) < sealHeader || sealed[0] != sealVersion {
		return refuse("it was sealed by another version of this program, or damaged")
	}
	if !bytes.Equal(sealed[:sealHeader], s.header[:]) {
		return refuse("it was sealed with another secrets key than " + s.source +
			". Give every replica the secrets_key, or the file " + secretsFile + ", with which it was stored")
	}
	plain, err := s.aead.Open(nil, nil, sealed[sealHeader:], s.binding(provider, name))
	if err != nil {
		return refuse("its row was changed or damaged. Store the key again")
	}
	return account.NewSecret(string(plain)), nil
}

// binding is the authenticated data. Names have no zero bytes (account.CheckName).
func (s *sealer) binding(provider, name string) []byte {
	return fmt.Appendf(s.header[:sealHeader:sealHeader], "%s\x00%s", provider, name)
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

// Secret makes a secret of the secrets key for a purpose: the same one on every replica that has that key.
func (s *Store) Secret(purpose string) []byte {
	out, err := hkdf.Key(sha256.New, s.sealer.seed, nil, "shareai "+purpose, sha256.Size)
	if err != nil {
		panic(err) // only for a size beyond 255 hashes
	}
	return out
}
