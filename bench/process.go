package bench

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ticksPerSecond is the unit of CPU time in /proc: the kernel's USER_HZ, 100 on every Linux that Go runs on.
const ticksPerSecond = 100

const mb = 1 << 20

// usage is what a process has taken from its machine since it started.
type usage struct {
	user, system time.Duration // CPU, all threads, also those that have ended
	written      int64         // bytes it caused to be written to the disk
}

func (u usage) plus(o usage) usage {
	return usage{u.user + o.user, u.system + o.system, u.written + o.written}
}

func usageOf(pid int) (usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, fmt.Errorf("read the CPU time: %w", err)
	}
	var u usage
	if u.user, u.system, err = cpuOfStat(string(stat)); err != nil {
		return usage{}, err
	}
	u.written, err = field(fmt.Sprintf("/proc/%d/io", pid), "write_bytes")
	return u, err
}

// cpuOfStat finds user and system time in the text of /proc/<pid>/stat. The name of the program stands in parentheses
// and may hold anything, so fields are counted from the last parenthesis on.
func cpuOfStat(stat string) (user, system time.Duration, err error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, 0, fmt.Errorf("read the CPU time: %q has %d fields behind the name", stat, len(fields))
	}
	for i, into := range []*time.Duration{&user, &system} { // proc(5) counts them as fields 14 and 15
		n, err := strconv.ParseInt(fields[11+i], 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("read the CPU time: %w", err)
		}
		*into = time.Duration(n) * time.Second / ticksPerSecond
	}
	return user, system, nil
}

// memory is what a process holds, in MB.
type memory struct {
	anonymous float64 // not backed by a file: what the kernel cannot take back
	resident  float64
	peak      float64 // the highest resident ever
}

func memoryOf(pid int) (memory, error) {
	path := fmt.Sprintf("/proc/%d/status", pid)
	var m memory
	for name, into := range map[string]*float64{"RssAnon": &m.anonymous, "VmRSS": &m.resident, "VmHWM": &m.peak} {
		kb, err := field(path, name)
		if err != nil {
			return memory{}, err
		}
		*into = float64(kb) / 1024
	}
	return m, nil
}

// field reads one "name: number" line of a file in /proc.
func field(path, name string) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", name, err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, is := strings.CutPrefix(line, name+":"); is {
			return strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		}
	}
	return 0, fmt.Errorf("read %s: no %s", path, name)
}

// diskOf counts the MB that files below dir occupy, in all and by the folders in dir/member. What is allocated counts, not
// what the size says: both servers allocate log files ahead.
func diskOf(dir string) (total float64, parts map[string]float64, err error) {
	parts = map[string]float64{}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		size := float64(info.Sys().(*syscall.Stat_t).Blocks) * 512 / mb
		total += size
		below, _ := filepath.Rel(filepath.Join(dir, "member"), path) // path is below dir: Rel finds a way
		if part, _, inFolder := strings.Cut(below, string(filepath.Separator)); inFolder {
			parts[part] += size
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) { // a file went while we walked: a running server may remove its own
		err = nil
	}
	return total, parts, err
}
