package bench

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// machine is what the figures depend on and the code does not decide.
type machine struct {
	CPU        string `json:"cpu"`
	Cores      int    `json:"cores"`
	MemoryMB   int64  `json:"memory_mb"`
	Kernel     string `json:"kernel"`
	FileSystem string `json:"file_system"` // of the folder with the data
	Go         string `json:"go"`          // that built the client
}

func thisMachine(dir string) (machine, error) {
	kb, err := field("/proc/meminfo", "MemTotal")
	if err != nil {
		return machine{}, err
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return machine{}, err
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return machine{}, fmt.Errorf("ask for the file system of %s: %w", dir, err)
	}
	return machine{
		CPU:        cpuModel(),
		Cores:      runtime.NumCPU(),
		MemoryMB:   kb / 1024,
		Kernel:     strings.TrimSpace(string(kernel)),
		FileSystem: fileSystem(st.Type),
		Go:         runtime.Version(),
	}, nil
}

func cpuModel() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if name, value, _ := strings.Cut(s.Text(), ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// fileSystem names the usual ones; statfs(2) has the numbers.
func fileSystem(magic int64) string {
	switch magic {
	case 0xef53:
		return "ext4"
	case 0x58465342:
		return "xfs"
	case 0x9123683e:
		return "btrfs"
	case 0x01021994:
		return "tmpfs"
	}
	return fmt.Sprintf("%#x", magic)
}

// freeMB is the space left in dir.
func freeMB(dir string) (float64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("ask for the free space of %s: %w", dir, err)
	}
	return float64(st.Bavail) * float64(st.Bsize) / mb, nil
}

// load1 is the load average of the last minute. The bench itself is part of it.
func load1() (float64, error) {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(text), " ")
	return strconv.ParseFloat(first, 64)
}

// busy is the CPU time that everything on this machine has used since it started, also what a hypervisor took.
func busy() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	return busyOfStat(first)
}

// busyOfStat adds up the first line of /proc/stat: user nice system idle iowait irq softirq steal, in ticks. What guests
// use, further right, is part of user.
func busyOfStat(line string) (time.Duration, error) {
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, fmt.Errorf("read the machine's CPU time: %q", line)
	}
	var ticks int64
	for i, text := range fields[1:9] {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read the machine's CPU time: %w", err)
		}
		if i != 3 && i != 4 { // idle and waiting for a disk
			ticks += n
		}
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond, nil
}

// ownCPU is the CPU time of this process: the price of the client.
func ownCPU() (time.Duration, error) {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0, fmt.Errorf("ask for the client's CPU time: %w", err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()), nil
}
