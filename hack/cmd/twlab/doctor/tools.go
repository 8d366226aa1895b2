package doctor

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"twlab/hack/internal/kit"
	"twlab/harness/kernels"
)

// tool is a program that some runs need.
type tool struct{ name, cost, mend string }

const (
	bootstrap = "run hack/bootstrap as root"
	withQEMU  = "run hack/bootstrap --with-qemu as root"
)

func optionalTools() []tool {
	qemu := "qemu-system-x86_64"
	if runtime.GOARCH == "arm64" {
		qemu = "qemu-system-aarch64"
	}
	return []tool{
		{"gcc", "no hack/test and no --race: Go's race detector needs it", bootstrap},
		{"shellcheck", "hack/test does not look at the scripts", bootstrap},
		{qemu, "no --kernel and no twlab matrix: everything is tried on this kernel alone, and tests of machines are skipped", withQEMU},
		{"dpkg-deb", "no twlab kernels fetch", withQEMU},
		{"depmod", "no twlab kernels fetch", withQEMU},
		{"nginx", "no labs whose balancer is nginx, and their tests are skipped; the suite has none", "run hack/bootstrap --with-nginx as root"},
		{"wrk", "hack/bench has nothing to compare HTTP exchanges with", "install it"},
	}
}

// tools looks for programs, and for what other kernels need.
func tools(k kit.Kit) []finding {
	all := []finding{goTool(k)}
	for _, t := range optionalTools() {
		f := finding{State: ok, Thing: t.name}
		path, err := exec.LookPath(t.name)
		if f.Detail = path; err != nil {
			f = finding{State: absent, Thing: t.name, Cost: t.cost, Mend: t.mend}
		}
		all = append(all, f)
	}
	return append(all, kvm(), fetched())
}

func goTool(k kit.Kit) finding {
	f := finding{State: ok, Thing: "go", Mend: "hack/bootstrap says how to get it"}
	path, err := exec.LookPath("go")
	switch {
	case err == nil:
		f.Detail = path
	case k.Built != "":
		f.State, f.Cost = absent, "nothing can be built: the programs in "+k.Built+" run, as long as they are those of the tree"
	default:
		f.State, f.Cost = missing, "the suite cannot be built; twlab load works without"
	}
	return f
}

func kvm() finding {
	f := finding{State: ok, Thing: "kvm", Detail: "/dev/kvm; whether it works shows at the first boot"}
	err := unix.Access("/dev/kvm", unix.R_OK|unix.W_OK)
	if err == nil {
		return f
	}
	f.State, f.Detail = absent, "/dev/kvm: "+err.Error()
	f.Cost = "other kernels are emulated: a boot takes 5 to 20 s, and the suite on one (--virtual-time) some 15 minutes"
	if f.Mend = "a machine that has it"; os.IsPermission(err) {
		f.Mend = "join the group of /dev/kvm"
	}
	return f
}

// fetched says which kernels are at hand.
func fetched() finding {
	f := finding{State: absent, Thing: "other kernels", Cost: "--kernel and twlab matrix have none by name", Mend: "twlab kernels fetch debian-6.1"}
	cache, err := kernels.DefaultCache()
	if err != nil {
		f.Detail = err.Error()
		return f
	}
	there, err := cache.List()
	if err != nil {
		f.Detail = err.Error()
		f.Mend = "as it says"
		return f
	}
	var names []string
	for _, k := range there {
		names = append(names, fmt.Sprintf("%s (Linux %s)", k.Name, k.Release))
	}
	if len(names) > 0 {
		f.State, f.Detail = ok, strings.Join(names, ", ")
	}
	return f
}
