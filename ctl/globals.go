package ctl

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc/grpclog"

	"holdfast/ctl/output"
)

// envPrefix begins the environment variable of each global flag.
const envPrefix = "ETCDCTL"

// globals are the flags of every command.
type globals struct {
	endpoints []string
	debug     bool
	format    string
	hex       bool
	compat    string // version of etcd whose columns are shown; empty is the environment's, or the newest

	dialTimeout      time.Duration
	commandTimeout   time.Duration // of one short command, without the dialing
	keepAlive        time.Duration
	keepAliveTimeout time.Duration
	sendBytesMax     int // 0 is the client's default
	recvBytesMax     int // likewise

	insecureTransport  bool
	insecureDiscovery  bool
	insecureSkipVerify bool
	cert, key, cacert  string
	token              string
	user, password     string
	srvDomain, srvName string
}

func (g *globals) register(fs *pflag.FlagSet) {
	fs.StringSliceVar(&g.endpoints, "endpoints", []string{"127.0.0.1:2379"}, "addresses of members; a name that has several addresses is one of them after the other")
	fs.BoolVar(&g.debug, "debug", false, "log what the client does, and the value of each flag")
	fs.StringVarP(&g.format, "write-out", "w", "simple", "form of answers ("+strings.Join(output.Formats(), ", ")+")")
	fs.StringVar(&g.compat, "compat", "", "show the columns of this version of etcd (3.4, 3.5; also HOLDFAST_CTL_COMPAT)")
	fs.BoolVar(&g.hex, "hex", false, "print byte strings and ids in hexadecimal")

	fs.DurationVar(&g.dialTimeout, "dial-timeout", 2*time.Second, "how long to wait for a connection")
	fs.DurationVar(&g.commandTimeout, "command-timeout", 5*time.Second, "how long a short command may take (without the dialing)")
	fs.DurationVar(&g.keepAlive, "keepalive-time", 2*time.Second, "how long a connection may be silent before the server is asked for a sign of life")
	fs.DurationVar(&g.keepAliveTimeout, "keepalive-timeout", 6*time.Second, "how long to wait for that sign of life")
	fs.IntVar(&g.sendBytesMax, "max-request-bytes", 0, "largest request the client sends, in bytes (0: 2 MiB)")
	fs.IntVar(&g.recvBytesMax, "max-recv-bytes", 0, "largest answer the client takes, in bytes (0: 2 GiB)")

	fs.BoolVar(&g.insecureTransport, "insecure-transport", true, "speak without TLS to endpoints that do not say https")
	fs.BoolVar(&g.insecureDiscovery, "insecure-discovery", true, "take endpoints without TLS from SRV records")
	fs.BoolVar(&g.insecureSkipVerify, "insecure-skip-tls-verify", false, "do not verify the server's certificate (only for tests)")
	fs.StringVar(&g.cert, "cert", "", "certificate to show to the server")
	fs.StringVar(&g.key, "key", "", "key of that certificate")
	fs.StringVar(&g.cacert, "cacert", "", "authorities that the server's certificate is verified with")
	fs.StringVar(&g.token, "auth-jwt-token", "", "JWT token to authenticate with, in place of --user and --password")
	fs.StringVar(&g.user, "user", "", "username[:password] to authenticate with (asks for a password that is not given)")
	fs.StringVar(&g.password, "password", "", "password to authenticate with, if --user holds none")
	fs.StringVarP(&g.srvDomain, "discovery-srv", "d", "", "domain whose SRV records name the endpoints")
	fs.StringVar(&g.srvName, "discovery-srv-name", "", "suffix of the service's name in SRV records")
}

// secret tells whether the value of a flag may not be shown.
func secret(flag string) bool {
	return flag == "password" || flag == "auth-jwt-token" || flag == "user"
}

// silent are variables with our prefix that are no flags, and that nobody wants to hear of.
var silent = []string{envPrefix + "_API", envPrefix + "_WATCH_KEY", envPrefix + "_WATCH_RANGE_END"}

func envName(flag string) string {
	return envPrefix + "_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// fromEnviron sets the flags that the environment names and the command line does not. Both at once is a mistake, as it is in
// etcdctl: one of them would be passed over.
func (t *tool) fromEnviron(fs *pflag.FlagSet) error {
	flags := map[string]*pflag.Flag{}
	fs.VisitAll(func(f *pflag.Flag) { flags[envName(f.Name)] = f })
	for _, pair := range t.env.Environ {
		name, value, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, envPrefix+"_") || slices.Contains(silent, name) {
			continue
		}
		f := flags[name]
		switch {
		case f == nil:
			fmt.Fprintf(t.env.Stderr, "Warning: unrecognized environment variable %s\n", name)
		case f.Changed:
			return fmt.Errorf("conflicting environment variable is shadowed by corresponding command-line flag "+
				"(either unset environment variable or disable flag): %s and --%s", name, f.Name)
		case value == "":
		default:
			if err := f.Value.Set(value); err != nil {
				return badArgs("invalid value %q for %s: %v", value, name, err)
			}
		}
	}
	return nil
}

// configure reads the environment and readies logging and output: all that a command needs before it dials.
func (t *tool) configure(cmd *cobra.Command) error {
	fs := cmd.Root().PersistentFlags()
	if err := t.fromEnviron(fs); err != nil {
		return err
	}
	t.env.LogGRPC(grpclog.NewLoggerV2(io.Discard, io.Discard, t.env.Stderr)) // its warnings tell of each lost connection
	if t.flags.debug {
		t.env.LogGRPC(grpclog.NewLoggerV2WithVerbosity(t.env.Stderr, t.env.Stderr, t.env.Stderr, 4))
		fs.VisitAll(func(f *pflag.Flag) {
			value := f.Value.String()
			if value != "" && secret(f.Name) {
				value = "(not shown)"
			}
			fmt.Fprintf(t.env.Stderr, "%s=%s\n", envName(f.Name), value)
		})
	}
	return nil
}

// explainUnknown lets `help` tell standard error of what it does not know, as etcd's tool does; cobra would tell standard output.
func (t *tool) explainUnknown(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	help, _, err := root.Find([]string{"help"}) // Commands would sort them, and with them what is suggested for a mistyped name
	if err != nil {
		panic(fmt.Sprintf("ctl: help: %v", err))
	}
	show := help.Run
	help.Run = func(cmd *cobra.Command, args []string) {
		if found, _, err := root.Find(args); found != nil && err == nil {
			show(cmd, args)
			return
		}
		fmt.Fprintf(t.env.Stderr, "Unknown help topic %#q\n%s", args, root.UsageString())
	}
}

// hideGlobals keeps the global flags out of each command's help: `options` lists them.
func hideGlobals(root *cobra.Command) {
	root.PersistentFlags().VisitAll(func(f *pflag.Flag) { f.Hidden = true })
	root.InitDefaultHelpFlag()
	root.Flags().Lookup("help").Hidden = true
	help := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		help(cmd, args)
		fmt.Fprintf(cmd.OutOrStdout(), "Use %q for a list of global command-line options (applies to all commands).\n", root.CommandPath()+" options")
	})
}
