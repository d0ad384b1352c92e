package main

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/longhorn/backupstore"
)

func restore(c common, file string) (report, error) {
	file, err := filepath.Abs(file)
	if err != nil {
		return report{}, err
	}
	before, err := locks(c)
	if err != nil {
		return report{}, err
	}
	ops := &fileOps{file: file, stop: make(chan struct{}), done: make(chan error, 1)}
	config := &backupstore.DeltaRestoreConfig{
		BackupURL:       backupstore.EncodeBackupURL(c.backup, c.volume, c.target),
		DeltaOps:        ops,
		Filename:        file,
		ConcurrentLimit: int32(c.concurrency),
	}
	if err := backupstore.RestoreDeltaBlockBackup(context.Background(), config); err != nil {
		return report{}, err
	}
	if err := <-ops.done; err != nil {
		return report{}, err
	}
	data := time.Since(ops.opened).Seconds()
	return report{DataSeconds: data}, untilUnlocked(c, before)
}

// fileOps lets the library restore into a file.
type fileOps struct {
	file   string
	opened time.Time
	stop   chan struct{}
	done   chan error
}

func (o *fileOps) OpenVolumeDev(name string) (*os.File, string, error) {
	o.opened = time.Now()
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	return file, name, err
}

func (o *fileOps) CloseVolumeDev(file *os.File) error { return file.Close() }

// UpdateRestoreStatus is called with the volume's name for each block, and at the end once with the file's, which is
// an absolute path.
func (o *fileOps) UpdateRestoreStatus(name string, _ int, err error) {
	if name == o.file {
		o.done <- err
	}
}

func (o *fileOps) Stop() { close(o.stop) }

func (o *fileOps) GetStopChan() chan struct{} { return o.stop }
