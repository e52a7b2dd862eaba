package kube

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// programs are the binaries a run needs.
type programs struct {
	store     string // the server under test; takes etcd's flags
	etcdctl   string
	apiserver string
}

// side is one store with one kube-apiserver on it.
type side struct {
	name   string
	store  *process
	server *process
	client dynamic.Interface

	etcdctlPath string
	endpoint    string // the store's client address
}

// token is what the clients show; it belongs to a user in the group that may do everything.
const token = "kube-test"

// newSide starts a store and an API server in dir and returns when both are ready and the kinds are served.
func newSide(ctx context.Context, name, dir string, bin programs) (*side, error) {
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	s := &side{name: name, etcdctlPath: bin.etcdctl, endpoint: loopback(ports[0])}
	s.store, err = newStore(dir, bin.store, ports[0], ports[1])
	if err != nil {
		return nil, err
	}
	s.server, err = newAPIServer(dir, bin.apiserver, s.endpoint, ports[2])
	if err != nil {
		return nil, err
	}
	s.client, err = dynamic.NewForConfig(&rest.Config{
		Host:            "https://" + loopback(ports[2]),
		BearerToken:     token,
		TLSClientConfig: rest.TLSClientConfig{Insecure: true},
		QPS:             -1, // the server's own limits are the ones that count
		UserAgent:       fieldManager,
	})
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	if err := s.startStore(ctx); err != nil {
		s.close()
		return nil, err
	}
	if err := s.server.start(); err != nil {
		s.close()
		return nil, err
	}
	if err := s.prepare(ctx); err != nil {
		s.close()
		return nil, fmt.Errorf("%w\nkube-apiserver's last words:\n%s", err, s.server.tail())
	}
	return s, nil
}

// newStore describes the store. The program is started through a link called etcd, because by that name Holdfast is
// etcd's server command.
func newStore(dir, path string, clientPort, peerPort int) (*process, error) {
	link := filepath.Join(dir, "etcd")
	if err := os.Symlink(path, link); err != nil {
		return nil, fmt.Errorf("link the store's program: %w", err)
	}
	client, peer := "http://"+loopback(clientPort), "http://"+loopback(peerPort)
	return &process{path: link, log: filepath.Join(dir, "store.log"), args: []string{
		"--name=kube", "--data-dir=" + filepath.Join(dir, "data"),
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=kube=" + peer,
	}}, nil
}

// newAPIServer describes the API server. It needs no address beyond loopback: nothing connects to the address it
// would advertise, so no reconciler publishes one.
func newAPIServer(dir, path, endpoint string, port int) (*process, error) {
	key := filepath.Join(dir, "service-account.key")
	if err := writeKey(key); err != nil {
		return nil, err
	}
	tokens := filepath.Join(dir, "tokens.csv")
	if err := os.WriteFile(tokens, []byte(token+",test,test,system:masters\n"), 0o600); err != nil {
		return nil, fmt.Errorf("write tokens: %w", err)
	}
	return &process{path: path, log: filepath.Join(dir, "kube-apiserver.log"), args: []string{
		"--etcd-servers=http://" + endpoint,
		"--bind-address=127.0.0.1", "--advertise-address=192.0.2.1", "--endpoint-reconciler-type=none",
		"--secure-port=" + strconv.Itoa(port), "--cert-dir=" + filepath.Join(dir, "certs"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + key, "--service-account-signing-key-file=" + key,
		"--token-auth-file=" + tokens, "--authorization-mode=RBAC", "--service-cluster-ip-range=10.96.0.0/16",
		"--disable-admission-plugins=ServiceAccount",
		"--enable-priority-and-fairness=false",
		"--watch-cache-sizes=secrets#0",
		"--etcd-compaction-interval=30s", // its own compactions too, not only ours
	}}, nil
}

// writeKey makes the key that service account tokens would be signed with.
func writeKey(path string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return fmt.Errorf("make a signing key: %w", err)
	}
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		return fmt.Errorf("write the signing key: %w", err)
	}
	return nil
}

// startStore starts the store, again perhaps, and returns when it says it is healthy.
func (s *side) startStore(ctx context.Context) error {
	if err := s.store.start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 60*time.Second, errors.New("60 s are over"))
	defer cancel()
	err := until(ctx, "wait for the store", func() error {
		if !s.store.running() {
			return errors.New("it ended")
		}
		resp, err := http.Get("http://" + s.endpoint + "/health")
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%w\nthe store's last words:\n%s", err, s.store.tail())
	}
	return nil
}

// prepare makes the namespaces and the custom kind and waits until every kind is served.
func (s *side) prepare(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 120*time.Second, errors.New("120 s are over"))
	defer cancel()
	ensure := func(r schema.GroupVersionResource, obj *unstructured.Unstructured) error {
		return until(ctx, "create "+obj.GetName(), func() error {
			if !s.server.running() {
				return errors.New("kube-apiserver ended")
			}
			_, err := s.client.Resource(r).Create(ctx, obj, metav1.CreateOptions{})
			if err != nil && !isExists(err) {
				return err
			}
			return nil
		})
	}
	for _, ns := range namespaces {
		if err := ensure(namespaceResource, namespaceObject(ns)); err != nil {
			return err
		}
	}
	if err := ensure(crdResource, crdObject()); err != nil {
		return err
	}
	for _, k := range kinds {
		err := until(ctx, "list "+k.resource.Resource, func() error {
			_, err := s.client.Resource(k.resource).List(ctx, metav1.ListOptions{Limit: 1})
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// close ends both programs.
func (s *side) close() {
	s.server.stop(20 * time.Second)
	s.store.stop(10 * time.Second)
}

// etcdctl runs etcd's own tool against the store.
func (s *side) etcdctl(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, s.etcdctlPath, append([]string{"--endpoints=" + s.endpoint}, args...)...)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
		}
		return nil, fmt.Errorf("etcdctl %s: %w", strings.Join(args, " "), err)
	}
	return out, nil
}

// revision asks the store for its current revision.
func (s *side) revision(ctx context.Context) (int64, error) {
	out, err := s.etcdctl(ctx, "endpoint", "status", "-w", "json")
	if err != nil {
		return 0, err
	}
	var status []struct {
		Status struct {
			Header struct{ Revision int64 }
		}
	}
	if err := json.Unmarshal(out, &status); err != nil || len(status) != 1 {
		return 0, fmt.Errorf("read the answer %q: %w", out, err)
	}
	return status[0].Status.Header.Revision, nil
}

// keyVersions returns how often each of the script's keys in the store was written since it was last created.
func (s *side) keyVersions(ctx context.Context) (map[string]int64, error) {
	versions := map[string]int64{}
	for _, k := range kinds {
		out, err := s.etcdctl(ctx, "get", k.keyPrefix, "--prefix", "--keys-only", "-w", "json")
		if err != nil {
			return nil, err
		}
		var answer struct {
			KVs []struct {
				Key     string
				Version int64
			}
		}
		if err := json.Unmarshal(out, &answer); err != nil {
			return nil, fmt.Errorf("read the keys below %s: %w", k.keyPrefix, err)
		}
		for _, kv := range answer.KVs {
			key, err := base64.StdEncoding.DecodeString(kv.Key)
			if err != nil {
				return nil, fmt.Errorf("read the keys below %s: %w", k.keyPrefix, err)
			}
			versions[string(key)] = kv.Version
		}
	}
	return versions, nil
}
