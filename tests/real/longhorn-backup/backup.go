package main

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"syscall"
	"time"

	"github.com/longhorn/backupstore"
	"github.com/longhorn/backupstore/types"
)

// backupFlags are those of a backup alone.
type backupFlags struct {
	snapshot, compression, since string
	blockSize                    int64
	full                         bool
	labels                       labels
}

// labels collects repeated KEY=VALUE flags.
type labels map[string]string

func (l labels) String() string { return fmt.Sprint(map[string]string(l)) }

func (l labels) Set(text string) error {
	for at := range text {
		if text[at] == '=' {
			l[text[:at]] = text[at+1:]
			return nil
		}
	}
	return fmt.Errorf("%q is not KEY=VALUE", text)
}

func registerBackup(flags *flag.FlagSet) func(common, string) (report, error) {
	f := &backupFlags{labels: labels{}}
	flags.StringVar(&f.snapshot, "snapshot", "", "the snapshot's name (default: snap-BACKUP)")
	flags.StringVar(&f.compression, "compression", "lz4", "none, lz4 or gzip; a volume keeps its first")
	flags.Int64Var(&f.blockSize, "block-size", 2, "MiB a block: 2 or 16")
	flags.BoolVar(&f.full, "full", false, "upload also the blocks that the store has")
	flags.StringVar(&f.since, "since", "", "the image at the volume's latest backup; only what differs is read")
	flags.Var(f.labels, "label", "KEY=VALUE, may be repeated")
	return func(c common, image string) (report, error) { return backup(c, f, image) }
}

func backup(c common, f *backupFlags, path string) (report, error) {
	if f.snapshot == "" {
		f.snapshot = "snap-" + c.backup
	}
	image, err := openImage(path)
	if err != nil {
		return report{}, err
	}
	defer image.Close()
	ops := &imageOps{image: image, closed: make(chan struct{})}
	if f.since != "" {
		if ops.since, err = openImage(f.since); err != nil {
			return report{}, err
		}
		defer ops.since.Close()
	}
	info, err := image.Stat()
	if err != nil {
		return report{}, err
	}
	blockSize := f.blockSize << 20
	if info.Size() == 0 || info.Size()%blockSize != 0 {
		return report{}, fmt.Errorf("%s: %d bytes are not made of %d MiB blocks", path, info.Size(), f.blockSize)
	}
	before, err := locks(c)
	if err != nil {
		return report{}, err
	}
	now := time.Now().UTC().Format(time.RFC3339)
	mode := "incremental"
	if f.full {
		mode = "full"
	}
	config := &backupstore.DeltaBackupConfig{
		BackupName: c.backup,
		Volume: &backupstore.Volume{
			Name: c.volume, Size: info.Size(), Labels: f.labels, CreatedTime: now,
			CompressionMethod: f.compression, DataEngine: "v1",
		},
		Snapshot:        &backupstore.Snapshot{Name: f.snapshot, CreatedTime: now},
		DestURL:         c.target,
		DeltaOps:        ops,
		Labels:          f.labels,
		ConcurrentLimit: int32(c.concurrency),
		Parameters:      map[string]string{"backup-mode": mode, "backup-block-size": strconv.FormatInt(blockSize, 10)},
	}
	incremental, err := backupstore.CreateDeltaBlockBackup(c.backup, config)
	if err != nil {
		return report{}, err
	}
	<-ops.closed
	if ops.failed != "" || ops.url == "" {
		return report{}, fmt.Errorf("the backup failed: %s", ops.failed)
	}
	data := time.Since(ops.opened).Seconds()
	return report{Incremental: incremental, DataSeconds: data}, untilUnlocked(c, before)
}

func openImage(path string) (*os.File, error) {
	image, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if info, err := image.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("%s is no regular file", path), err)
	}
	return image, nil
}

// imageOps shows an image file to the library as a snapshot, and the image before it as the previous one.
type imageOps struct {
	image, since *os.File
	opened       time.Time
	closed       chan struct{}
	url, failed  string
}

// HasSnapshot is only asked about the snapshot of the volume's latest backup.
func (o *imageOps) HasSnapshot(string, string) bool { return o.since != nil }

func (o *imageOps) OpenSnapshot(string, string) error {
	o.opened = time.Now()
	return nil
}

func (o *imageOps) ReadSnapshot(_, _ string, start int64, data []byte) error {
	return readBlock(o.image, start, data)
}

// CloseSnapshot is the last thing the library does, after its last status.
func (o *imageOps) CloseSnapshot(string, string) error {
	close(o.closed)
	return nil
}

// UpdateBackupStatus is called under the library's own lock while blocks are worked on, and alone at the end.
func (o *imageOps) UpdateBackupStatus(_, _, _ string, _ int, url, failed string) error {
	if url != "" {
		o.url = url
	}
	if failed != "" {
		o.failed = failed
	}
	return nil
}

// CompareSnapshot lists, block by block as Longhorn's engine does, what is mapped, or what differs from the snapshot
// before.
func (o *imageOps) CompareSnapshot(_, before, _ string, blockSize int64) (*types.Mappings, error) {
	mapped, err := mappedBlocks(o.image, blockSize)
	if err != nil {
		return nil, err
	}
	if before != "" {
		older, err := mappedBlocks(o.since, blockSize)
		if err != nil {
			return nil, err
		}
		if mapped, err = changed(o.image, o.since, mapped, older, blockSize); err != nil {
			return nil, err
		}
	}
	mappings := &types.Mappings{BlockSize: blockSize}
	for _, offset := range mapped {
		mappings.Mappings = append(mappings.Mappings, types.Mapping{Offset: offset, Size: blockSize})
	}
	return mappings, nil
}

// mappedBlocks returns the offsets of the blocks with at least one allocated extent, ascending.
func mappedBlocks(file *os.File, blockSize int64) ([]int64, error) {
	const seekData, seekHole = 3, 4
	var offsets []int64
	for at := int64(0); ; {
		data, err := file.Seek(at, seekData)
		if errors.Is(err, syscall.ENXIO) {
			return offsets, nil
		} else if err != nil {
			return nil, err
		}
		hole, err := file.Seek(data, seekHole)
		if err != nil {
			return nil, err
		}
		for offset := data / blockSize * blockSize; offset < hole; offset += blockSize {
			if len(offsets) == 0 || offsets[len(offsets)-1] < offset {
				offsets = append(offsets, offset)
			}
		}
		at = hole
	}
}

// changed returns those blocks, mapped in either image, whose content differs.
func changed(image, since *os.File, mapped, older []int64, blockSize int64) ([]int64, error) {
	var differ []int64
	now, then := make([]byte, blockSize), make([]byte, blockSize)
	for len(mapped)+len(older) > 0 {
		var offset int64
		switch {
		case len(older) == 0 || (len(mapped) > 0 && mapped[0] < older[0]):
			offset, mapped = mapped[0], mapped[1:]
		case len(mapped) == 0 || older[0] < mapped[0]:
			offset, older = older[0], older[1:]
		default:
			offset, mapped, older = mapped[0], mapped[1:], older[1:]
		}
		if err := errors.Join(readBlock(image, offset, now), readBlock(since, offset, then)); err != nil {
			return nil, err
		}
		if !bytes.Equal(now, then) {
			differ = append(differ, offset)
		}
	}
	return differ, nil
}

// readBlock fills data; beyond the end of the file are zeros.
func readBlock(file *os.File, start int64, data []byte) error {
	n, err := file.ReadAt(data, start)
	if err == io.EOF {
		clear(data[n:])
		return nil
	}
	return err
}

// locksOf is the folder of a volume's locks.
func locksOf(volume string) string {
	sum := sha512.Sum512([]byte(volume))
	layers := hex.EncodeToString(sum[:2])
	return path.Join("backupstore/volumes", layers[:2], layers[2:], volume, "locks") + "/"
}
