package bench

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"holdfast/test/run"
)

// setup is what a row asks its questions to. The zero value is one empty member with its defaults.
type setup struct {
	members int    // 0: one
	tls     bool   // clients speak TLS, with certificates that the server makes
	stock   *stock // data to start from; nil: none. Of one member only.
	inPlace bool   // the row leaves the stock as it was, so that it need not be copied
	args    []string
	// within is a command that becomes the nth member: it is given the path and the flags. nil: none.
	within func(member int) []string
}

// members are the running servers of one side, and how clients reach them.
type members struct {
	servers []*run.Server
	creds   credentials.TransportCredentials
}

// startFor is how long a member may take until it answers. etcd reads all keys first, which takes it a minute with ten million on two cores.
const startFor = 5 * time.Minute

// start starts what s says and returns when all members answer.
func (t *task) start(ctx context.Context, s setup) (*members, error) {
	cfg := run.Config{Binary: t.side.binary, Args: s.args, Dir: t.dir, StartTimeout: startFor}
	m := &members{creds: insecure.NewCredentials()}
	if s.tls {
		cfg.TLS, cfg.Args = &tls.Config{InsecureSkipVerify: true}, append([]string{"--auto-tls"}, s.args...)
		m.creds = credentials.NewTLS(cfg.TLS)
	}
	if t.profiled() {
		cfg.Args = append([]string{profileArg}, cfg.Args...)
	}
	if s.stock != nil {
		kept, err := t.stocked(ctx, *s.stock)
		if err != nil {
			return nil, fmt.Errorf("prepare %s: %w", s.stock.name, err)
		}
		cfg.Args = append(cfg.Args, s.stock.args...)
		if s.inPlace {
			cfg.Dir = kept
		} else if err := t.copyOf(kept); err != nil {
			return nil, err
		}
	}
	t.status("starting")
	if err := m.place(cfg, max(1, s.members), s.within); err != nil {
		return nil, err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, server := range m.servers {
		g.Go(func() error { return server.Restart(ctx) })
	}
	if err := g.Wait(); err != nil {
		m.kill()
		return nil, err
	}
	return m, nil
}

// place gives n members their ports and, if there are several, a folder each.
func (m *members) place(cfg run.Config, n int, within func(member int) []string) error {
	dir, urls := cfg.Dir, []string(nil)
	for i := range n {
		if n > 1 {
			cfg.Name = fmt.Sprint("m", i)
			cfg.Dir = filepath.Join(dir, cfg.Name)
			if err := os.Mkdir(cfg.Dir, 0o755); err != nil {
				return fmt.Errorf("make room for data: %w", err)
			}
		}
		if within != nil {
			cfg.Within = within(i)
		}
		s, err := run.Place(cfg)
		if err != nil {
			return err
		}
		m.servers = append(m.servers, s)
		urls = append(urls, fmt.Sprintf("%s=%s", cfg.Name, s.PeerURL()))
	}
	if n > 1 {
		for _, s := range m.servers {
			s.Join(strings.Join(urls, ","))
		}
	}
	return nil
}

func (m *members) kill() {
	for _, s := range m.servers {
		s.Kill()
	}
}

// stop lets every member end in its own way.
func (m *members) stop() error {
	var g errgroup.Group
	for _, s := range m.servers {
		g.Go(s.Stop)
	}
	return g.Wait()
}

// dial makes n callers, spread over the members.
func (m *members) dial(n int) (*clients, error) {
	var addrs []string
	for _, s := range m.servers {
		addrs = append(addrs, s.Client)
	}
	return dialWith(m.creds, addrs, n)
}

func (m *members) pids() []int {
	var all []int
	for _, s := range m.servers {
		all = append(all, s.Pid())
	}
	return all
}

// held records what all members hold in memory and on disk.
func (t *task) held(m *members) error {
	v := t.record.Values
	for _, s := range m.servers {
		held, err := memoryOf(s.Pid())
		if err != nil {
			return err
		}
		v["anonymous_mb"] += held.anonymous
		v["resident_mb"] += held.resident
		total, parts, err := diskOf(s.Data)
		if err != nil {
			return fmt.Errorf("count the bytes on disk: %w", err)
		}
		v["disk_mb"] += total
		for part, size := range parts {
			v["disk_"+part+"_mb"] += size
		}
	}
	return nil
}
