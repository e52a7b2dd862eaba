package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/client/pkg/v3/logutil"
	"go.etcd.io/etcd/client/pkg/v3/srv"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"

	"holdfast/ctl/output"
	"holdfast/ctl/term"
)

// connect reads flags and environment and makes a client, which the caller gives to close.
func (t *tool) connect(cmd *cobra.Command) (*clientv3.Client, error) {
	spec, err := t.clientSpec(cmd)
	if err != nil {
		return nil, err
	}
	return t.dial(spec)
}

// dial makes a client of a description, which the caller gives to close.
func (t *tool) dial(spec *clientv3.ConfigSpec) (*clientv3.Client, error) {
	cfg, err := clientv3.NewClientConfig(spec, nil)
	if err != nil {
		return nil, fail(exitBadArgs, err)
	}
	cfg.Logger = t.clientLog()
	if dialer := t.nameDialer(spec.Endpoints); dialer != nil {
		cfg.DialOptions = append(cfg.DialOptions, grpc.WithContextDialer(dialer), grpc.WithConnectParams(t.connectParams()))
	}
	c, err := clientv3.New(*cfg)
	if err != nil {
		return nil, fail(exitBadConnection, err)
	}
	return c, nil
}

// clientLog writes what the client says of its tries to standard error, in the form in which etcd's tool does.
func (t *tool) clientLog() *zap.Logger {
	t.logLevel.SetLevel(clientv3.ClientLogLevel())
	lines := zapcore.NewJSONEncoder(logutil.DefaultZapLoggerConfig.EncoderConfig)
	core := zapcore.NewCore(lines, zapcore.Lock(zapcore.AddSync(t.env.Stderr)), t.logLevel)
	return zap.New(core, zap.AddCaller(), zap.AddStacktrace(zapcore.ErrorLevel)).Named("etcd-client")
}

// close ends a client. What it says of calls that end with it is of no interest.
func (t *tool) close(c *clientv3.Client) {
	t.logLevel.SetLevel(zapcore.FatalLevel)
	_ = c.Close() // all that was asked for has been answered
}

// clientSpec is what flags and environment say of the client; with it, how answers are shown is settled too.
func (t *tool) clientSpec(cmd *cobra.Command) (*clientv3.ConfigSpec, error) {
	if err := t.configure(cmd); err != nil {
		return nil, err
	}
	endpoints, err := t.endpoints()
	if err != nil {
		return nil, err
	}
	for flag, value := range map[string]string{"cert": t.flags.cert, "key": t.flags.key, "cacert": t.flags.cacert} {
		if value == "" && cmd.Flags().Changed(flag) {
			return nil, badArgs("empty string is passed to --%s option", flag)
		}
	}
	auth, err := t.credentials()
	if err != nil {
		return nil, err
	}
	if t.printer, err = output.New(t.flags.format, t.flags.hex, t.env.Stdout, t.env.Stderr); err != nil {
		return nil, fail(exitBadFeature, err)
	}
	if t.layout, err = t.compatLayout(); err != nil {
		return nil, err
	}
	serverName := t.flags.srvDomain
	if t.flags.insecureDiscovery {
		serverName = ""
	}
	return &clientv3.ConfigSpec{
		Endpoints:          endpoints,
		DialTimeout:        t.flags.dialTimeout,
		KeepAliveTime:      t.flags.keepAlive,
		KeepAliveTimeout:   t.flags.keepAliveTimeout,
		MaxCallSendMsgSize: t.flags.sendBytesMax,
		MaxCallRecvMsgSize: t.flags.recvBytesMax,
		Secure: &clientv3.SecureConfig{
			Cert: t.flags.cert, Key: t.flags.key, Cacert: t.flags.cacert, ServerName: serverName,
			InsecureTransport: t.flags.insecureTransport, InsecureSkipVerify: t.flags.insecureSkipVerify,
		},
		Auth: auth,
	}, nil
}

// endpoints are those of the SRV records if there are any, else those of the flag.
func (t *tool) endpoints() ([]string, error) {
	if t.flags.srvDomain != "" {
		found, err := srv.GetClient("etcd-client", t.flags.srvDomain, t.flags.srvName)
		if err != nil {
			return nil, err
		}
		if eps := t.trusted(found.Endpoints); len(eps) > 0 {
			return eps, nil
		}
	}
	eps := make([]string, len(t.flags.endpoints))
	for i, ep := range t.flags.endpoints {
		eps[i] = strings.TrimSpace(ep)
	}
	return eps, nil
}

// trusted leaves out the discovered endpoints without TLS, unless they are allowed.
func (t *tool) trusted(discovered []string) []string {
	if t.flags.insecureDiscovery {
		return discovered
	}
	var left []string
	for _, ep := range discovered {
		if strings.HasPrefix(ep, "http://") {
			fmt.Fprintf(t.env.Stderr, "ignoring discovered insecure endpoint %q\n", ep)
			continue
		}
		left = append(left, ep)
	}
	return left
}

// credentials are what the client logs in with; nil is nothing.
func (t *tool) credentials() (*clientv3.AuthConfig, error) {
	switch {
	case t.flags.token != "":
		return &clientv3.AuthConfig{Token: t.flags.token}, nil
	case t.flags.user == "":
		return nil, nil
	case t.flags.password != "":
		return &clientv3.AuthConfig{Username: t.flags.user, Password: t.flags.password}, nil
	}
	name, password, given := strings.Cut(t.flags.user, ":")
	if !given {
		var err error
		if password, err = t.askPassword("Password: "); err != nil {
			return nil, err
		}
	}
	return &clientv3.AuthConfig{Username: name, Password: password}, nil
}

// askPassword asks the terminal, or reads the first line of what is piped in. The question goes to standard output, as etcd's.
func (t *tool) askPassword(question string) (string, error) {
	password, err := term.Password(t.env.Stdin, t.env.Stdout, question)
	if !errors.Is(err, term.ErrNobody) {
		return password, err
	}
	fmt.Fprint(t.env.Stdout, question)
	line, err := readLine(t.env.Stdin)
	if err != nil && !errors.Is(err, io.EOF) { // nothing there is an empty password
		return "", fmt.Errorf("failed during password entry: %w", err)
	}
	fmt.Fprintln(t.env.Stdout)
	return strings.TrimSpace(line), nil
}

// readLine reads up to the end of a line, or of the input, and not a byte more, so that the rest is there for who reads next.
func readLine(r io.Reader) (string, error) {
	var line []byte
	b := make([]byte, 1)
	for {
		n, err := r.Read(b)
		switch {
		case n == 1 && b[0] == '\n', errors.Is(err, io.EOF):
			return string(line), nil
		case n == 1:
			line = append(line, b[0])
		case err != nil:
			return "", err
		}
	}
}

// limit bounds one short command.
func (t *tool) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, t.flags.commandTimeout)
}
