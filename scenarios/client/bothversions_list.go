package client

import (
	"time"

	"twlab/harness/lab"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

const (
	narrowPort = 50000
	shortFin   = 5 * time.Second // tcp_fin_timeout
)

// bothSysctls lists the sysctls of the family.
func bothSysctls() []bothSysctl {
	return []bothSysctl{
		{
			name: "net.ipv4.tcp_timestamps", role: lab.Client, usual: "1", other: "0", drive: (*bothRun).plain, tell: tellPlain,
			acts:    []claim.Expectation{situation.Outcome(tcp.Connected), claim.Is("timestamps", "no")},
			doesNot: []claim.Expectation{situation.Outcome(tcp.Connected), claim.Is("timestamps", "yes")},
			because: "the SYN has no timestamps, whatever the version of IP", source: "tcp_syn_options",
		},
		{
			name: "net.ipv4.tcp_syn_retries", role: lab.Client, usual: "2", other: "1", drive: (*bothRun).unanswered, tell: tellUnanswered,
			rules: loseSYNs,
			// Without it, four more at intervals of a second may come first (since 6.5).
			also:    lab.Settings{{Role: lab.Client, Name: "net.ipv4.tcp_syn_linear_timeouts", Value: "0", IfPresent: true}},
			acts:    []claim.Expectation{situation.Outcome(tcp.TimedOut), claim.Exactly("syns", 2), claim.Exactly("client TcpExt.TCPSynRetrans", 1)},
			doesNot: []claim.Expectation{situation.Outcome(tcp.TimedOut), claim.Exactly("syns", 3), claim.Exactly("client TcpExt.TCPSynRetrans", 2)},
			because: "a SYN without an answer is repeated that often, whatever the version of IP", source: "tcp_write_timeout", cause: "filtered", usualCause: "filtered",
		},
		{
			name: "net.ipv4.ip_local_port_range", role: lab.Client, usual: "32768 49999", other: "50000 50000", drive: (*bothRun).plain, tell: tellPlain,
			acts:    []claim.Expectation{situation.Outcome(tcp.Connected), claim.Is("port in the range", "yes")},
			doesNot: []claim.Expectation{situation.Outcome(tcp.Connected), claim.Is("port in the range", "no")},
			because: "connect chooses the port from the one range for both versions", source: "inet6_hash_connect, inet_sk_get_local_port_range",
		},
		{
			name: "net.ipv4.tcp_fin_timeout", role: lab.Client, usual: "60", other: "5", drive: (*bothRun).clientCloses, tell: tellClientCloses,
			acts:    []claim.Expectation{situation.Outcome(tcp.Connected), claim.Is("FIN_WAIT2", "short")},
			doesNot: []claim.Expectation{situation.Outcome(tcp.Connected), claim.Is("FIN_WAIT2", "longer")},
			because: "a closed connection that waits for the FIN of the other side is given up after it, whatever the version of IP",
			source:  "tcp_fin_time, tcp_time_wait",
		},
		{
			name: "net.ipv4.tcp_max_tw_buckets", role: lab.Client, usual: "1000", other: "0", drive: (*bothRun).timeWait, tell: tellTimeWait,
			acts:    []claim.Expectation{claim.Exactly("client TIME_WAIT", 0), claim.Rises(lab.Client, "TcpExt.TCPTimeWaitOverflow")},
			doesNot: []claim.Expectation{claim.Exactly("client TIME_WAIT", 1), claim.Stays(lab.Client, "TcpExt.TCPTimeWaitOverflow")},
			because: "the limit holds for TIME_WAITs of both versions: one that is too many is not created", source: "inet_twsk_alloc, tcp_time_wait",
		},
		{
			name: "net.ipv4.tcp_tw_reuse", role: lab.Client, usual: "0", other: "1", drive: (*bothRun).portAgain, tell: tellPortAgain,
			acts:    []claim.Expectation{situation.Outcome(tcp.Connected), claim.Rises(lab.Client, "TcpExt.TWRecycled")},
			doesNot: []claim.Expectation{situation.Outcome(tcp.NoPort), claim.Stays(lab.Client, "TcpExt.TWRecycled")},
			because: "connect takes the port of its own TIME_WAIT, whatever the version of IP", source: "__inet6_check_established, tcp_twsk_unique", usualCause: "ports-exhausted",
		},
		{
			name: "net.ipv4.tcp_syncookies", role: lab.Balancer, usual: "1", other: "0", drive: (*bothRun).fullQueue, tell: tellFullQueue,
			rules:   loseACKs,
			acts:    []claim.Expectation{claim.Stays(lab.Balancer, "TcpExt.SyncookiesSent"), claim.Rises(lab.Balancer, "TcpExt.TCPReqQFullDrop")},
			doesNot: []claim.Expectation{claim.Rises(lab.Balancer, "TcpExt.SyncookiesSent"), claim.Stays(lab.Balancer, "TcpExt.TCPReqQFullDrop")},
			because: "a full queue of half-open connections drops SYNs instead of answering them by a cookie, whatever the version of IP",
			source:  "tcp_syn_flood_action, tcp_conn_request", cause: "syn-queue-full",
		},
	}
}

// bothEvidence is what the situations note.
func bothEvidence() []claim.Evidence {
	return []claim.Evidence{
		situation.OutcomeEvidence, situation.SYNsEvidence, situation.TimestampsEvidence, situation.ClientWaits,
		{Name: "port in the range", Unit: situation.YesOrNo, Means: "whether connect chose the port of the narrow range"},
		{Name: "FIN_WAIT2", Unit: "a length", Means: "how long the kernel keeps the client's FIN_WAIT2: short, as the other value says, or longer"},
	}
}
