package cgroup

import (
	"testing"
	"testing/fstest"
)

// Goal: the limit is found wherever the machine keeps it. Method: the files of each kind of machine, made up in memory.
func TestMemoryLimit(t *testing.T) {
	const (
		v2  = "30 24 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
		v1  = "35 24 0:30 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n"
		cpu = "36 24 0:31 / /sys/fs/cgroup/cpu rw shared:10 - cgroup cgroup rw,cpu\n"
	)
	for _, c := range []struct {
		name   string
		cgroup string
		mounts string
		files  map[string]string
		want   Limit
	}{
		{name: "no control groups"},
		{
			name: "version 2, a service", cgroup: "0::/system.slice/holdfast.service\n", mounts: v2,
			files: map[string]string{"sys/fs/cgroup/system.slice/holdfast.service/memory.max": "268435456\n"},
			want:  Limit{268435456, "/sys/fs/cgroup/system.slice/holdfast.service/memory.max"},
		},
		{
			name: "version 2, the group above is tighter", cgroup: "0::/a/b\n", mounts: v2,
			files: map[string]string{"sys/fs/cgroup/a/b/memory.max": "2000\n", "sys/fs/cgroup/a/memory.max": "1000\n"},
			want:  Limit{1000, "/sys/fs/cgroup/a/memory.max"},
		},
		{
			name: "version 2, a container with a namespace of its own", cgroup: "0::/\n", mounts: v2,
			files: map[string]string{"sys/fs/cgroup/memory.max": "1000\n"},
			want:  Limit{1000, "/sys/fs/cgroup/memory.max"},
		},
		{
			name: "version 2, no limit", cgroup: "0::/a\n", mounts: v2,
			files: map[string]string{"sys/fs/cgroup/a/memory.max": "max\n"},
		},
		{
			name: "version 1", cgroup: "5:memory:/a\n4:cpu,cpuacct:/b\n0::/\n", mounts: cpu + v1,
			files: map[string]string{"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "1000\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"},
			want:  Limit{1000, "/sys/fs/cgroup/memory/a/memory.limit_in_bytes"},
		},
		{
			name: "version 1, a container without a namespace", cgroup: "5:memory:/docker/1234\n",
			mounts: "35 24 0:30 /docker/1234 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
			files:  map[string]string{"sys/fs/cgroup/memory/memory.limit_in_bytes": "1000\n"},
			want:   Limit{1000, "/sys/fs/cgroup/memory/memory.limit_in_bytes"},
		},
		{
			name: "version 1, a mount that shows another group", cgroup: "5:memory:/elsewhere\n",
			mounts: "35 24 0:30 /docker/1234 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
			files:  map[string]string{"sys/fs/cgroup/memory/memory.limit_in_bytes": "1000\n"},
			want:   Limit{1000, "/sys/fs/cgroup/memory/memory.limit_in_bytes"},
		},
		{
			name: "both, memory in version 1", cgroup: "5:memory:/a\n0::/\n", mounts: v1 + "37 24 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
			files: map[string]string{"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "1000\n"},
			want:  Limit{1000, "/sys/fs/cgroup/memory/a/memory.limit_in_bytes"},
		},
		{name: "lines that are none", cgroup: "x\n\n", mounts: "- -\n1 2 3 - cgroup2\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := fstest.MapFS{}
			for name, text := range c.files {
				root[name] = &fstest.MapFile{Data: []byte(text)}
			}
			root["proc/self/cgroup"] = &fstest.MapFile{Data: []byte(c.cgroup)}
			root["proc/self/mountinfo"] = &fstest.MapFile{Data: []byte(c.mounts)}
			if got := MemoryLimit(root); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}
