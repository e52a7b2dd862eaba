// Package cgroup finds out how much memory the control groups of this process leave it.
//
//	Units   bytes
//	Errors  what cannot be read or understood is no limit: most systems have no such files
//	Source  cgroups(7), proc(5) on mountinfo; Linux documentation admin-guide/cgroup-v1/memory and cgroup-v2
package cgroup

import (
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// Limit is a bound on memory and the file that sets it.
type Limit struct {
	Bytes int64  // 0: there is none
	File  string // as an absolute path
}

// unlimited is from where on a number of the first version means none: that kernel rounds the largest down to a page.
const unlimited = 1 << 62

// MemoryLimit is the lowest limit of the memory groups that hold this process, of either version. root is the file system of
// the machine, os.DirFS("/").
func MemoryLimit(root fs.FS) Limit {
	var lowest Limit
	for _, g := range memoryGroups(root) {
		// A limit holds for all groups below it; those above the mount are not ours to see.
		for dir := g.path; ; dir = path.Dir(dir) {
			file := path.Join(g.mount, dir, g.file)
			if n := read(root, file); n > 0 && (lowest.Bytes == 0 || n < lowest.Bytes) {
				lowest = Limit{n, file}
			}
			if dir == "/" {
				break
			}
		}
	}
	return lowest
}

func read(root fs.FS, file string) int64 {
	text, err := fs.ReadFile(root, strings.TrimPrefix(file, "/"))
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64) // "max" is none
	if err != nil || n >= unlimited {
		return 0
	}
	return n
}

// group is one of the groups this process is in.
type group struct {
	mount string // where its hierarchy is mounted
	path  string // of the group below mount, beginning with "/"
	file  string // that holds the limit
}

// memoryGroups are the groups of this process that may bound its memory: on a machine in transition there are two.
func memoryGroups(root fs.FS) []group {
	own := ownGroups(root)
	var groups []group
	for _, m := range mounts(root) {
		g := group{mount: m.point, file: "memory.max"}
		name, found := own[""]
		if m.kind == "cgroup" {
			g.file = "memory.limit_in_bytes"
			name, found = own["memory"]
			found = found && m.has("memory")
		}
		if !found {
			continue
		}
		below, inside := strings.CutPrefix(name, strings.TrimSuffix(m.root, "/"))
		if !inside { // a container that sees only its own group, under the name it has outside
			below = "/"
		}
		g.path = path.Join("/", below)
		groups = append(groups, g)
	}
	return groups
}

// ownGroups maps each controller of the first version, and "" for the second, to the group of this process.
func ownGroups(root fs.FS) map[string]string {
	text, _ := fs.ReadFile(root, "proc/self/cgroup")
	own := map[string]string{}
	for line := range strings.Lines(string(text)) { // 4:memory:/path
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(part) != 3 {
			continue
		}
		for controller := range strings.SplitSeq(part[1], ",") {
			own[controller] = part[2]
		}
	}
	return own
}

type mount struct {
	kind    string // "cgroup" or "cgroup2"
	root    string // the group that is seen at point
	point   string
	options string // of the hierarchy, its controllers among them
}

func (m mount) has(controller string) bool {
	for option := range strings.SplitSeq(m.options, ",") {
		if option == controller {
			return true
		}
	}
	return false
}

// mounts are the hierarchies of control groups.
func mounts(root fs.FS) []mount {
	text, _ := fs.ReadFile(root, "proc/self/mountinfo")
	var found []mount
	for line := range strings.Lines(string(text)) { // 36 35 98:0 /root /point rw,noatime master:1 - kind source options
		before, after, _ := strings.Cut(strings.TrimSpace(line), " - ")
		head, tail := strings.Fields(before), strings.Fields(after)
		if len(head) < 5 || len(tail) < 3 || tail[0] != "cgroup" && tail[0] != "cgroup2" {
			continue
		}
		found = append(found, mount{kind: tail[0], root: head[3], point: head[4], options: tail[2]})
	}
	return found
}
