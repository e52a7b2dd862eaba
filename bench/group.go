package bench

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// memoryGroup is a control group that bounds the memory of a member. Only root may make one.
type memoryGroup struct {
	dir  string
	peak string // the file that holds the most that was used
}

// errNoGroups says that this machine lets us make no group.
var errNoGroups = errors.New("memory cannot be bounded")

// Where both versions of control groups are mounted everywhere.
const groupsV1, groupsV2 = "/sys/fs/cgroup/memory", "/sys/fs/cgroup"

// newMemoryGroup makes a group of so many bytes, of the version that this machine has.
func newMemoryGroup(name string, bytes int64) (memoryGroup, error) {
	g, limit := memoryGroup{dir: filepath.Join(groupsV2, name), peak: "memory.peak"}, "memory.max"
	if _, err := os.Stat(filepath.Join(groupsV1, "memory.limit_in_bytes")); err == nil {
		g, limit = memoryGroup{dir: filepath.Join(groupsV1, name), peak: "memory.max_usage_in_bytes"}, "memory.limit_in_bytes"
	}
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		return g, fmt.Errorf("%w: %w", errNoGroups, err)
	}
	if err := os.WriteFile(filepath.Join(g.dir, limit), strconv.AppendInt(nil, bytes, 10), 0o644); err != nil {
		return g, errors.Join(fmt.Errorf("%w: %w", errNoGroups, err), g.remove())
	}
	return g, nil
}

// within is the command that moves into the group and becomes what is given behind it.
func (g memoryGroup) within() []string {
	return []string{"/bin/sh", "-c", `echo $$ > "$0/cgroup.procs" && exec "$@"`, g.dir}
}

func (g memoryGroup) peakMB() (float64, error) {
	text, err := os.ReadFile(filepath.Join(g.dir, g.peak))
	if err != nil {
		return 0, fmt.Errorf("read the most memory that was used: %w", err)
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(string(text)), 64)
	return n / mb, err
}

// remove takes the group away. Its processes must have ended.
func (g memoryGroup) remove() error { return os.Remove(g.dir) }
