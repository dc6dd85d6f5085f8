package gpushopper

import (
	"errors"
	"os"
	"strings"
)

// SaveKey writes a private key to a new file that only its owner can read (mode 0600), for `ssh -i`. When there is such a file it fails with an
// error for which errors.Is(err, fs.ErrExist): nothing is ever written over a key.
func SaveKey(path, privateKey string) (err error) {
	if privateKey == "" {
		return errors.New("there is no private key: the server tells one only when it made the pair, and only for a while")
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, file.Close())
		if err != nil {
			_ = os.Remove(path)
		}
	}()
	if err := file.Chmod(0o600); err != nil {
		return err
	}
	if _, err := file.WriteString(strings.TrimSuffix(privateKey, "\n") + "\n"); err != nil {
		return err
	}
	return file.Sync()
}
