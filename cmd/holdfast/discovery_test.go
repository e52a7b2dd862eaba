package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/test/etcd"
)

// TestDiscoveredMembers: two members that know nothing of each other but a token form a cluster, and one comes back to it when the
// service is gone. One that lost its data finds the token again, and then that the cluster remembers it.
func TestDiscoveredMembers(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dir := t.TempDir()
	client, peer := map[string]string{}, map[string]string{}
	for _, name := range []string{"service", "a", "b"} {
		for _, urls := range []map[string]string{client, peer} {
			urls[name] = etcd.FreeURL(t)
		}
	}
	// run starts a member, with the words it leaves in the result.
	run := func(name string, flags ...string) (program *exec.Cmd, words *strings.Builder) {
		program = exec.CommandContext(ctx, "holdfast", append([]string{
			"--name", name, "--data-dir", filepath.Join(dir, name), "--listen-client-urls", client[name], "--advertise-client-urls", client[name],
			"--listen-peer-urls", peer[name], "--initial-advertise-peer-urls", peer[name],
		}, flags...)...)
		words = new(strings.Builder)
		program.Stderr = words
		if err := program.Start(); err != nil {
			t.Fatal(err)
		}
		return program, words
	}
	kill := func(program *exec.Cmd) {
		if err := program.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = program.Wait() // it was killed, and says so
	}
	healthy := func(name string) {
		if err := awaitHealth(client[name]); err != nil {
			t.Fatal(err)
		}
	}
	ctl := func(name string, args ...string) string {
		out, err := exec.CommandContext(ctx, etcd.Binary(t, "etcdctl"), append([]string{"--endpoints", client[name]}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	service, _ := run("service")
	healthy("service")
	ctl("service", "put", "/_etcd/registry/t/_config/size", "2")
	flags := []string{"--discovery-token", "t", "--discovery-endpoints", client["service"]}
	a, _ := run("a", flags...)
	b, _ := run("b", flags...)
	healthy("a")
	healthy("b")
	if list := ctl("a", "member", "list"); strings.Count(list, "started") != 2 {
		t.Errorf("members\n%s", list)
	}
	kill(b)
	if err := os.RemoveAll(filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	b, words := run("b", flags...)
	if err := b.Wait(); err == nil || !strings.Contains(words.String(), "has already been bootstrapped") {
		t.Errorf("b came back without its data: %v\n%s", err, words)
	}
	kill(service)
	kill(a)
	a, _ = run("a", flags...)
	defer kill(a)
	for { // of two members it alone does not become ready, and may not know yet what was published last
		r, err := http.Get(peer["a"] + "/members")
		if err == nil && r.StatusCode == http.StatusOK {
			body, _ := io.ReadAll(r.Body)
			r.Body.Close()
			if strings.Count(string(body), "peerURLs") == 2 {
				return
			}
			err = fmt.Errorf("the members are %s", body) // its log has more of them
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("a does not come back: %v", err)
		}
	}
}
