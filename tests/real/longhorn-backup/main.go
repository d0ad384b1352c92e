// Command longhorn-backup makes and restores backups of raw image files with Longhorn's own library, so that lhrun can
// be compared with the real thing: what one writes the other must read.
//
//	longhorn-backup backup  --target s3://bucket@region/path/ --volume V --backup B --snapshot S [flags] IMAGE
//	longhorn-backup restore --target s3://bucket@region/path/ --volume V --backup B [flags] FILE
//
// Endpoint and keys come from the variables Longhorn reads: AWS_ENDPOINTS, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
// AWS_CERT, VIRTUAL_HOSTED_STYLE. It prints one JSON object, the library's log goes to stderr.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/longhorn/backupstore"
	_ "github.com/longhorn/backupstore/s3"
	"github.com/sirupsen/logrus"
)

// common are the flags of both operations.
type common struct {
	target, volume, backup string
	concurrency            int
	verbose                bool
}

func (c *common) register(flags *flag.FlagSet) {
	flags.StringVar(&c.target, "target", "", "the backup target, s3://bucket@region/path/")
	flags.StringVar(&c.volume, "volume", "", "the volume's name in the store")
	flags.StringVar(&c.backup, "backup", "", "the backup's name")
	flags.IntVar(&c.concurrency, "concurrency", 2, "blocks in flight; Longhorn's default is 2")
	flags.BoolVar(&c.verbose, "verbose", false, "show the library's log")
}

// report is what is printed: where the time went, and what it cost this process.
type report struct {
	Operation   string `json:"operation"`
	Incremental bool   `json:"incremental"`
	// Seconds is all of it; DataSeconds begins when the lock is held, which takes Longhorn two seconds.
	Seconds       float64 `json:"seconds"`
	DataSeconds   float64 `json:"data_seconds"`
	UserSeconds   float64 `json:"user_seconds"`
	SystemSeconds float64 `json:"system_seconds"`
	PeakBytes     int64   `json:"peak_bytes"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "longhorn-backup:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) == 0 {
		return fmt.Errorf("say backup or restore")
	}
	operation := arguments[0]
	flags := flag.NewFlagSet(operation, flag.ContinueOnError)
	var shared common
	shared.register(flags)
	var work func(common, string) (report, error)
	switch operation {
	case "backup":
		work = registerBackup(flags)
	case "restore":
		work = restore
	default:
		return fmt.Errorf("%q is neither backup nor restore", operation)
	}
	if err := flags.Parse(arguments[1:]); err != nil {
		return err
	}
	if flags.NArg() != 1 || shared.target == "" || shared.volume == "" || shared.backup == "" {
		return fmt.Errorf("%s needs --target, --volume, --backup and one file", operation)
	}
	if !shared.verbose {
		logrus.SetLevel(logrus.ErrorLevel)
	}
	logrus.SetOutput(os.Stderr)

	begin := time.Now()
	done, err := work(shared, flags.Arg(0))
	if err != nil {
		return err
	}
	done.Operation = operation
	done.Seconds = time.Since(begin).Seconds()
	if err := done.measure(); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(done)
}

// measure fills in what the process has used so far.
func (r *report) measure() error {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return err
	}
	r.UserSeconds = time.Duration(used.Utime.Nano()).Seconds()
	r.SystemSeconds = time.Duration(used.Stime.Nano()).Seconds()
	// Not Maxrss: it counts what the parent held before it started this program.
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for _, line := range strings.Split(string(status), "\n") {
		if peak, found := strings.CutPrefix(line, "VmHWM:"); found {
			if _, err := fmt.Sscanf(peak, "%d", &r.PeakBytes); err != nil {
				return err
			}
			r.PeakBytes *= 1024
			return nil
		}
	}
	return fmt.Errorf("%s does not tell the peak of its memory", runtime.GOOS)
}

// locks returns the names of the locks on a volume.
func locks(c common) (map[string]bool, error) {
	driver, err := backupstore.GetBackupStoreDriver(c.target)
	if err != nil {
		return nil, err
	}
	names, err := driver.List(locksOf(c.volume))
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for _, name := range names {
		found[name] = true
	}
	return found, nil
}

// untilUnlocked waits for the library to give up its own lock, which it does after it says that it is done.
func untilUnlocked(c common, before map[string]bool) error {
	for range 500 {
		now, err := locks(c)
		if err != nil {
			return err
		}
		own := 0
		for name := range now {
			if !before[name] {
				own++
			}
		}
		if own == 0 {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("the lock on %s was not given up", c.volume)
}
