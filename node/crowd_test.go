package node

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/test/bufconn"
)

// TestCrowd: connections beyond the bound, which two doors share, wait until one is closed; closing twice counts once; and a door
// that waits can be closed.
func TestCrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		c := &crowd{slots: make(chan struct{}, 2), log: slog.New(slog.NewTextHandler(&said, nil))}
		one, two := bufconn.Listen(10), bufconn.Listen(10)
		first, second := c.bound(one), c.bound(two)
		accepted := make(chan net.Conn, 10)
		accept := func(b *bounded) {
			for {
				conn, err := b.Accept()
				if err != nil {
					return
				}
				accepted <- conn
			}
		}
		// A door that waits for a client holds the place of one, so the second has to wait for its turn.
		go accept(first)
		for range 2 {
			go one.Dial()
		}
		synctest.Wait()
		if len(accepted) != 2 {
			t.Fatalf("%d connections", len(accepted))
		}
		go one.Dial()
		time.Sleep(time.Second)
		synctest.Wait()
		if len(accepted) != 2 || strings.Count(said.String(), "have to wait") != 1 {
			t.Fatalf("%d connections, said %s", len(accepted), said.String())
		}
		conn := <-accepted
		conn.Close()
		conn.Close()
		synctest.Wait()
		if len(accepted) != 2 || len(c.slots) != 2 {
			t.Fatalf("%d connections after one was closed, %d places taken", len(accepted), len(c.slots))
		}
		waits := make(chan error)
		go func() {
			_, err := second.Accept()
			waits <- err
		}()
		synctest.Wait()
		second.Close()
		if err := <-waits; !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		first.Close()
		for len(accepted) > 0 {
			(<-accepted).Close()
		}
	})
}
