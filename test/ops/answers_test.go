package ops

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"

	"holdfast/test/run"
)

var answersFlag = flag.Bool("answers.long", false, "TestLargeAnswers with 40 ranges of 200 MB against 1 GiB, and the rate of puts beside them asserted; wants a machine of its own")

// crowd is how much is asked of a member, and how much memory it has.
type crowd struct {
	limitMB, ranges, keys int
	pace                  float64 // of puts beside the ranges, compared with those before; 0 is not asserted
}

const crowdValue = 10 << 10

// Goal: a member lives within its memory, whatever is asked of it: many clients ask for lists of which each is a fifth of its limit, and
// all get theirs, while puts go on. Method: a member in a control group with a limit, or with the flag alone; clients of HTTP/2 that count what
// comes and keep nothing, and as many of the JSON gateway. Beyond its limit a member in a control group is killed by the kernel; without one its memory is sampled.
func TestLargeAnswers(t *testing.T) {
	c := crowd{limitMB: 192, ranges: 16, keys: 4000}
	if *answersFlag {
		c = crowd{limitMB: 1024, ranges: 40, keys: 20000, pace: 0.5}
	}
	for _, grouped := range []bool{false, true} {
		t.Run(fmt.Sprintf("grouped %v", grouped), func(t *testing.T) {
			if testing.Short() {
				t.Skip("starts servers")
			}
			binary := run.Holdfast(t)
			if grouped {
				binary = inGroup(t, binary, c.limitMB)
			}
			server, err := run.Start(t.Context(), run.Config{Binary: binary, Dir: t.TempDir(), Args: []string{fmt.Sprintf("--memory-limit=%dMiB", c.limitMB)}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(server.Kill)
			c.run(t, server)
		})
	}
}

// inGroup makes a program that runs another one in a control group with so much memory.
func inGroup(t *testing.T, binary string, limitMB int) string {
	t.Helper()
	group := fmt.Sprintf("/sys/fs/cgroup/memory/holdfast-test-%d", os.Getpid())
	limit := filepath.Join(group, "memory.limit_in_bytes")
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		group = fmt.Sprintf("/sys/fs/cgroup/holdfast-test-%d", os.Getpid())
		limit = filepath.Join(group, "memory.max")
	}
	err := os.Mkdir(group, 0o755)
	if err == nil {
		t.Cleanup(func() {
			eventually(t, "the control group to be empty", func() error { return os.Remove(group) })
		})
		err = os.WriteFile(limit, fmt.Append(nil, limitMB<<20), 0o644)
	}
	if err != nil {
		t.Skipf("waits for a machine where control groups of memory may be made: %v", err)
	}
	script := filepath.Join(t.TempDir(), "grouped")
	text := fmt.Sprintf("#!/bin/sh\necho $$ >%s/cgroup.procs\nexec %s \"$@\"\n", group, binary)
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return script
}

func (c crowd) run(t *testing.T, server *run.Server) {
	cl := dial(t, server.Client)
	value := noise(crowdValue)
	var fill sync.WaitGroup
	for w := range 16 {
		fill.Go(func() {
			for i := w; i < c.keys; i += 16 {
				if err := cl.put(fmt.Sprintf("big/%06d", i), value); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	fill.Wait()
	quiet := c.puts(t, cl, time.After(2*time.Second))

	var all sync.WaitGroup
	done := make(chan time.Time)
	var arrived, retried atomic.Int64
	for i := range c.ranges {
		ask := discard
		if i%2 == 1 {
			ask = discardJSON
		}
		all.Go(func() {
			for {
				n, err := ask(server.Client, "big/", "big0")
				switch {
				case err == nil && n > c.keys*crowdValue:
					arrived.Add(1)
					return
				case err == nil || !strings.Contains(err.Error(), "too many requests"):
					t.Errorf("after %d bytes: %v", n, err)
					return
				}
				retried.Add(1)
				time.Sleep(100 * time.Millisecond)
			}
		})
	}
	go func() { all.Wait(); close(done) }()
	meanwhile := c.puts(t, cl, done)
	select {
	case <-server.Ended():
		t.Fatalf("the member has ended:\n%s", server.LogTail(5))
	default:
	}
	t.Logf("%d ranges of %d MB, %d tried again; %.0f puts/s before and %.0f meanwhile", arrived.Load(), c.keys*crowdValue>>20, retried.Load(), quiet, meanwhile)
	if meanwhile < c.pace*quiet {
		t.Errorf("puts keep %.2f of their rate, want %.2f", meanwhile/quiet, c.pace)
	}
	if peak := peakMB(t, server.Pid()); peak > c.limitMB {
		t.Errorf("the member took %d MB, and was given %d", peak, c.limitMB)
	}
}

// puts writes with 16 callers until end and returns how many a second.
func (c crowd) puts(t *testing.T, cl *client, end <-chan time.Time) float64 {
	began := time.Now()
	var n atomic.Int64
	var all sync.WaitGroup
	stop := make(chan struct{})
	for w := range 16 {
		all.Go(func() {
			value := noise(256)
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := cl.put(fmt.Sprintf("put/%d", w), value); err != nil {
					t.Error(err)
					return
				}
				n.Add(1)
			}
		})
	}
	<-end
	close(stop)
	all.Wait()
	if n.Load() == 0 {
		t.Error("nobody could write")
	}
	return float64(n.Load()) / time.Since(began).Seconds()
}

// peakMB is the most memory a process had that no file backs, as far as the kernel says: the peak of all, which has the program's text.
func peakMB(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	var kb int
	_, rest, found := strings.Cut(string(status), "VmHWM:")
	if _, err := fmt.Sscan(rest, &kb); !found || err != nil {
		t.Fatalf("no peak in the status of the process: %v", err)
	}
	return kb >> 10
}

// discard asks for a range on a connection of its own, counts what comes and keeps nothing.
func discard(address, from, to string) (n int, err error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	d := &discarder{Framer: http2.NewFramer(c, c), status: map[string]string{}}
	d.headers = hpack.NewDecoder(4096, func(f hpack.HeaderField) { d.status[f.Name] = f.Value })
	if err := d.ask(c, address, &pb.RangeRequest{Key: []byte(from), RangeEnd: []byte(to)}); err != nil {
		return 0, err
	}
	for {
		if over, err := d.next(); err != nil || over {
			return d.n, err
		}
	}
}

// discardJSON is discard through the JSON gateway.
func discardJSON(address, from, to string) (n int, err error) {
	encode := base64.StdEncoding.EncodeToString
	q := fmt.Sprintf(`{"key":%q,"range_end":%q}`, encode([]byte(from)), encode([]byte(to)))
	web := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := web.Post("http://"+address+"/v3/kv/range", "application/json", strings.NewReader(q))
	if err != nil {
		return 0, err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		why, err := io.ReadAll(r.Body)
		return 0, errors.Join(fmt.Errorf("%s: %s", r.Status, why), err)
	}
	came, err := io.Copy(io.Discard, r.Body)
	return int(came), err
}

// discarder is one call of a client that keeps nothing.
type discarder struct {
	*http2.Framer
	headers *hpack.Decoder
	status  map[string]string
	n, owed int
}

// window is what the member may send ahead.
const window = 1 << 20

func (d *discarder) ask(c net.Conn, address string, q *pb.RangeRequest) error {
	body, err := proto.Marshal(q)
	if err != nil {
		return err
	}
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, h := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", pb.KV_Range_FullMethodName}, {":authority", address},
		{"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		if err := encoder.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}); err != nil {
			return err
		}
	}
	_, err = c.Write([]byte(http2.ClientPreface))
	message := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body))), body...)
	return errors.Join(err,
		d.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window}), d.WriteWindowUpdate(0, window),
		d.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true}), d.WriteData(1, true, message))
}

// next takes a frame.
func (d *discarder) next() (over bool, err error) {
	frame, err := d.ReadFrame()
	if err != nil {
		return false, err
	}
	switch f := frame.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			err = d.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			err = d.WritePing(true, f.Data)
		}
	case *http2.DataFrame:
		d.n += len(f.Data())
		if d.owed += len(f.Data()); d.owed > window/2 {
			err = errors.Join(d.WriteWindowUpdate(0, uint32(d.owed)), d.WriteWindowUpdate(1, uint32(d.owed)))
			d.owed = 0
		}
	case *http2.HeadersFrame:
		_, err = d.headers.Write(f.HeaderBlockFragment())
		if over = f.StreamEnded(); over && d.status["grpc-status"] != "0" {
			err = errors.Join(err, errors.New(d.status["grpc-message"]))
		}
	case *http2.RSTStreamFrame:
		err = fmt.Errorf("the call was reset: %v", f.ErrCode)
	case *http2.GoAwayFrame:
		err = fmt.Errorf("the connection ends: %v", f.ErrCode)
	}
	return over, err
}
