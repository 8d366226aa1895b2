package proxy

import (
	"fmt"
	"strings"
	"time"

	"twlab/harness/haproxy"
	"twlab/harness/http"
	"twlab/harness/lab"
	"twlab/harness/observe"
	"twlab/harness/script"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// vip is where clients connect, behind is where the first server listens.
var (
	vip    = script.Endpoint{Name: "vip", Port: 80}
	behind = script.Endpoint{Name: "server0", Port: 80}
)

// rests is how long connections may take to come to rest when the requests are over.
const rests = 10 * time.Second

// tell tells what Drive does in Go, as steps: the listeners, and the requests in one step or, with
// a pause in between, in several.
func (p Proxied) tell(topology lab.Topology) (situation.Told, error) {
	servers := []string{"balancer"}
	if !topology.Balancer.IsEndpoint() {
		servers = script.Usual(topology).Groups["servers"]
	}
	var t situation.Steps
	for _, s := range servers {
		t.Do(p.listen(s))
	}
	first := len(t)
	for i, n := range p.groups() {
		t.After(p.pause(i), fmt.Sprintf("requests%d", i), p.exchange(n))
	}
	told := situation.Told{Steps: t, Evidence: evidence(servers)}
	if parts := t[first:]; len(parts) > 1 {
		told.Evidence["whole"] = inParts(parts)
		for _, name := range moving {
			told.Evidence[name] = stillInParts(parts, name)
		}
	}
	if program, is := topology.Balancer.Program.(haproxy.Balancer); is {
		told.Program = programOf(program.Config)
	}
	return told, nil
}

// moving are the counters of which rules say how much they rise by all requests together.
var moving = []string{
	"balancer Tcp.OutRsts", "balancer Tcp.EstabResets", "balancer TcpExt.TWRecycled", "client Tcp.OutRsts", "client Tcp.EstabResets", "server Tcp.EstabResets",
}

// groups are the numbers of requests between which there is a pause.
func (p Proxied) groups() (sizes []int) {
	if p.AtOnce <= 1 {
		sizes = []int{p.Requests}
	} else {
		for n := p.Requests; n > 0; n -= p.AtOnce {
			sizes = append(sizes, min(n, p.AtOnce))
		}
	}
	if p.Again > 0 {
		sizes = append(sizes, p.Again)
	}
	return sizes
}

// pause is the time before a group of requests: until the balancer's TIME_WAITs are old, or until
// all connections have ended.
func (p Proxied) pause(group int) time.Duration {
	switch {
	case group == 0:
		return 0
	case p.Again > 0:
		return situation.OldReuseDelay + situation.AgingSlack
	default:
		return 200 * time.Millisecond
	}
}

// inParts expects whole responses of several steps: the first ones are those that are.
func inParts(steps []script.Step) situation.Teller {
	return func(e claim.Expectation, to *[]script.Expectation) bool {
		if e.Least != e.Most {
			return false
		}
		left := e.Least
		for i := range steps {
			n := min(left, int64(steps[i].Do.(script.Exchange).Count)) //nolint:errcheck // tell made it
			left -= n
			part := claim.Exactly(e.What, n)
			if i == len(steps)-1 {
				return disposition("whole")(part, to)
			}
			if len(steps[i].Expect) == 0 {
				steps[i].Expect = []script.Expectation{{}}
			}
			disposition("whole")(part, &steps[i].Expect)
		}
		return false
	}
}

// stillInParts expects of each of several steps that a counter does not move. How much of a rise
// is whose, files cannot say.
func stillInParts(steps []script.Step, what string) situation.Teller {
	node, counter, _ := strings.Cut(what, " ")
	still := situation.AsCounter(map[string]string{"client": "client0", "server": behind.Name}[node], counter)
	if node == "balancer" {
		still = situation.AsCounter(node, counter)
	}
	return func(e claim.Expectation, to *[]script.Expectation) bool {
		if e.Most != 0 {
			return false
		}
		for i := range steps[:len(steps)-1] {
			if len(steps[i].Expect) == 0 {
				steps[i].Expect = []script.Expectation{{}}
			}
			still(e, &steps[i].Expect)
		}
		return still(e, to)
	}
}

// listen is a server.
func (p Proxied) listen(at string) script.Listen {
	web := script.Web{Body: p.Server.HTTP.Body, Last: p.Server.HTTP.Last, Cut: p.Server.HTTP.Cut, JoinFIN: p.Server.HTTP.JoinFIN, Idle: p.Server.HTTP.Idle}
	switch p.Server.HTTP.Framing {
	case http.ByLength:
	case http.Chunked:
		web.Framing = "chunked"
	case http.ToTheEnd:
		web.Framing = "close"
	}
	switch p.Server.Ending {
	case tcp.Abort:
		web.End = "reset"
	case tcp.CloseAfterPeer:
		web.End = "close-after-client"
	default:
	}
	return script.Listen{Node: at, Port: vip.Port, Serve: script.ServeHTTP, Web: web}
}

// exchange is a number of requests.
func (p Proxied) exchange(n int) script.Exchange {
	x := script.Exchange{
		From: script.Endpoint{Name: "client0"}, To: vip, Count: n, InTurn: p.AtOnce <= 1,
		GiveUp: p.Each.Budget, Connection: p.Each.Requests[0].Connection,
	}
	switch p.Each.Ending {
	case tcp.Abort:
		x.Then = script.ThenReset
	case tcp.CloseFirst:
		x.Then = script.ThenCloseFirst
	case tcp.CloseAfterPeer:
		x.Then = script.ThenCloseAfter
	case tcp.KeepOpen:
		x.Then = script.ThenKeep
	default:
	}
	return x
}

// programOf is HAProxy with the options of a configuration.
func programOf(c haproxy.Config) *script.Program {
	p := script.Program{
		Kind: script.HAProxy, HTTP: c.Mode == haproxy.HTTP, ServerClose: c.Connections == haproxy.ServerClose, CloseBoth: c.Connections == haproxy.CloseBoth,
		NoLinger: c.NoLingerClients, NoLingerServers: c.NoLingerServers, Reuse: string(c.Reuse), PurgeDelay: purgeDelay,
		ConnectTimeout: c.Timeouts.Connect, ClientTimeout: c.Timeouts.Client, ServerTimeout: c.Timeouts.Server, KeepAliveTimeout: c.Timeouts.KeepAlive,
	}
	if c.Retries != 0 {
		p.Retries = new(max(0, c.Retries))
	}
	p.Source.First, p.Source.Last = c.Source.First, c.Source.Last
	return &p
}

// evidence says what the families note in the words of files.
func evidence(servers []string) map[string]situation.Teller {
	waiting := func(node string, local, remote script.Endpoint) situation.Teller {
		return resting(script.SocketCount{Node: node, State: string(observe.TimeWait), Local: local, Remote: remote})
	}
	all := map[string]situation.Teller{
		"no port":            situation.TellOutcomes(tcp.NoPort),
		"client TIME_WAIT":   waiting("client0", script.Endpoint{}, vip),
		"frontend TIME_WAIT": waiting("balancer", vip, script.Endpoint{}),
	}
	for _, d := range []string{"whole", "truncated", "broken"} {
		all[d] = disposition(d)
	}
	all["unanswered"] = func(e claim.Expectation, to *[]script.Expectation) bool {
		// Where a RST came instead of a response, files say "broken".
		return e.Most == 0 && disposition("unanswered")(e, to)
	}
	if len(servers) == 1 && servers[0] == behind.Name {
		all["backend TIME_WAIT"] = waiting("balancer", script.Endpoint{}, behind)
		all["server TIME_WAIT"] = waiting(behind.Name, behind, script.Endpoint{})
		all["kept"] = resting(script.SocketCount{Node: "balancer", State: string(observe.Established), Remote: behind})
	}
	return all
}

// resting expects sockets when the connections have come to rest.
func resting(of script.SocketCount) situation.Teller {
	sockets := situation.AsSockets(of)
	return func(e claim.Expectation, to *[]script.Expectation) bool {
		(*to)[0].Within = rests
		return sockets(e, to)
	}
}

func disposition(name string) situation.Teller {
	return func(e claim.Expectation, to *[]script.Expectation) bool {
		bound, said := situation.BoundOf(e)
		if (*to)[0].Dispositions == nil {
			(*to)[0].Dispositions = map[string]script.Bound{}
		}
		(*to)[0].Dispositions[name] = bound
		return said
	}
}
