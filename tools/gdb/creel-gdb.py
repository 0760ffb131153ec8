# Shows creel's fibers in gdb: `creel fibers`, `creel fiber N`, `creel bt all`; `help creel` tells
# more. It works on a live process and on a core, and calls nothing in the program. Of creel it
# needs two symbols and no debug information: creel_debugger_table has the offsets of the members
# that are read here, creel_saved_registers says where a parked fiber's registers lie.

import itertools
import re
import struct

import gdb
from gdb.unwinder import Unwinder, register_unwinder

TABLE_VERSION = 1
REGISTERS_VERSION = 1
LISTED = 100  # fibers that are listed or unwound one by one, if no other number is asked for
LONGEST_TEXT = 200
DEEPEST_INDENT = 32
X86_64 = 62  # e_machine of ELF
REGISTER_NAMES = {X86_64: {3: "rbx", 6: "rbp", 12: "r12", 13: "r13", 14: "r14", 15: "r15"}}

# What a wait is for, by the class or the function whose `describe` this is. Any other wait has the
# name that it has in the source.
WAITS = {
    "sleep": "a sleep",
    "slot": "a place among the children",
    "result": "the result of a task",
    "call": "a blocking call",
    "select": "the first of several",
    "room": "room in the ring",
    "receiver": "recv",
    "connecting": "connect",
    "mover": "a move to another thread",
    "end": "the end of serve",
}


class Refused(Exception):
    """A line for the user."""


def address_of(symbol):
    try:
        return int(gdb.parse_and_eval("(unsigned long)&" + symbol))
    except gdb.error:
        return 0


# ---- memory


def read(address, size):
    return bytes(gdb.selected_inferior().read_memory(address, size))


def word_at(block, offset):
    return struct.unpack_from("<Q", block, offset)[0]


def read_word(address):
    return word_at(read(address, 8), 0)


def printable(data):
    text = data.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def read_text(address, size):
    return printable(read(address, min(size, LONGEST_TEXT))) if size else ""


class Table:
    """creel_debugger_table of the program, and what else is the same for all fibers."""

    def __init__(self):
        at = address_of("creel_debugger_table")
        if at == 0:
            raise Refused(
                "no symbol creel_debugger_table: the program has no creel that runs, or it is "
                "stripped. Give gdb a copy that has symbols: `symbol-file COPY`"
            )
        version, count, entries, schedulers = struct.unpack("<IIQQ", read(at, 24))
        if version != TABLE_VERSION:
            if version == 0 or entries == 0:
                raise Refused("the program's memory cannot be read here")
            raise Refused(
                "this script knows version %d of creel_debugger_table, and the program has %d: "
                "`source` the script of the creel that the program was built with"
                % (TABLE_VERSION, version)
            )
        self.first_scheduler = schedulers
        self.values = {}
        for name, value in struct.iter_unpack("<24sQ", read(entries, 32 * count)):
            self.values[name.split(b"\0")[0].decode()] = value
        self.withdraw_operation, self.operation_fd = 0, 0
        at = address_of("creel_debugger_operation")
        if at != 0:
            self.withdraw_operation, self.operation_fd = struct.unpack("<QQ", read(at, 16))
        self.kinds = {}
        self.sites = {}
        self.labels = {}

    def __getitem__(self, name):
        try:
            return self.values[name]
        except KeyError:
            raise Refused("creel_debugger_table has no entry " + name) from None

    def site(self, at):
        """FILE:LINE of a std::source_location: a pointer to what the compilers agree upon."""
        if at not in self.sites:
            text = "?"
            if at != 0:
                file, _, line = struct.unpack("<QQI", read(at, 20))
                text = "%s:%d" % (read_c_string(file), line)
            self.sites[at] = text
        return self.sites[at]

    def label(self, kind):
        """The name of the tasks of this closure_kind: that of all() and race(), or none."""
        if kind not in self.labels:
            number = read_word(kind + self["task_kind.number"])
            call = read_word(kind + self["task_kind.label"])
            self.labels[kind] = "%s #%d" % (read_c_string(call), number) if number else ""
        return self.labels[kind]

    def wait(self, kind):
        """What a wait of this waiter_kind is for, from the name of its function `describe`; and
        True for an operation of the ring."""
        if kind not in self.kinds:
            function = read_word(kind + self["waiter_kind.describe"])
            symbol = gdb.execute("info symbol %d" % function, to_string=True)
            withdraw = read_word(kind + self["waiter_kind.withdraw"])
            self.kinds[kind] = wait_of(symbol), withdraw == self.withdraw_operation
        return self.kinds[kind]


def read_c_string(address):
    if address == 0:
        return "?"
    data = b""
    while len(data) < 4 * LONGEST_TEXT:  # at most to the end of a page: the next may be missing
        size = min(64, 4096 - (address + len(data)) % 4096)
        data += read(address + len(data), size)
        if b"\0" in data:
            break
    return printable(data.split(b"\0")[0])


def wait_of(symbol):
    match = re.match(r"(?:.*::)?(\w+)::describe\(", symbol) or re.match(
        r"(?:.*::)?describe_(\w+)\(", symbol
    )
    if match is None:
        return "something"
    name = re.sub(r"_waiter$", "", match.group(1))
    return WAITS.get(name, name.replace("_", " "))


# ---- fibers


class Fiber:
    """A fiber, or a task that has none yet, as the program has it now."""

    def __init__(self, scheduler, number, name, depth, record):
        self.scheduler = scheduler
        self.number = number
        self.name = name
        self.depth = depth
        self.record = record  # 0: has not started
        self.site = ""
        self.nursery = ""
        self.state = ""
        self.context = 0

    def is_live(self):
        """True if its registers are those of its thread."""
        return self.record != 0 and self.record == self.scheduler.current

    def line(self):
        if self.site:
            text = "%s (#%d, spawned at %s)" % (self.name or "task", self.number, self.site)
        else:
            text = "%s (#%d)" % (self.name, self.number)
        if self.nursery:
            text += " in " + self.nursery
        return text + " " + self.state

    def group(self):
        return (self.site or self.name, self.nursery, self.state)


class Scheduler:
    """A scheduler that has a run."""

    def __init__(self, table, at):
        self.table = table
        self.at = at
        self.current = read_word(at + table["scheduler.current"])
        self.thread = read_word(at + table["scheduler.thread"])
        self.nursery_names = {}

    def fibers(self):
        """All of them, parents before their children: as list_fibers() does."""
        t = self.table
        seen = set()
        yield from self.tree(self.at + t["scheduler.main"], "main", seen)
        if not t["libstdcxx"]:
            return
        # std::unordered_map<context*, fiber_record>: its nodes are one list.
        node = read_word(self.at + t["scheduler.natives"] + 16)
        while node:
            if node in seen:
                raise Refused("the list of Boost's fibers is being changed")
            seen.add(node)
            record = node + 16
            block = read(record, t["fiber.bytes"])
            in_call = word_at(block, t["fiber.waiting_on"]) or word_at(block, t["fiber.outermost"])
            if in_call or record == self.current:
                yield from self.tree(record, "Boost fiber", seen)
            node = read_word(node)

    def tree(self, root, name, seen):
        t = self.table
        block = read(root, t["fiber.bytes"])
        fiber = Fiber(self, word_at(block, t["fiber.id"]), name, 0, root)
        self.look(fiber, block)
        yield fiber
        stack = self.nurseries(block, 1)
        while stack:
            task, depth = stack.pop()
            if task == 0:
                continue
            if task in seen:
                raise Refused("a list of children is being changed: let the program go on a little")
            seen.add(task)
            block = read(task, t["task.bytes"])
            stack.append((word_at(block, t["task.next"]), depth))
            record = word_at(block, t["task.runner"])
            fiber = self.fiber_of(task, block, depth, record)
            inner = []
            if record:
                block = read(record, t["fiber.bytes"])
                self.look(fiber, block)
                inner = self.nurseries(block, depth + 1)
            yield fiber
            stack += inner

    def nurseries(self, record, depth):
        """The first child of each nursery that the fiber has opened, the outermost last."""
        t = self.table
        found = []
        scope = word_at(record, t["fiber.outermost"])
        for _ in range(10000):
            if scope == 0:
                break
            nursery = read_word(scope + t["scope.nursery"])
            if nursery:
                found.append((read_word(nursery + t["nursery.first_child"]), depth))
            scope = read_word(scope + t["scope.inner"])
        found.reverse()
        return found

    def fiber_of(self, task, block, depth, record):
        t = self.table
        name = ""
        if t["libstdcxx"]:
            at = word_at(block, t["task.name"])
            name = read_text(at, word_at(block, t["task.name"] + 8))
        name = name or t.label(word_at(block, t["task.kind"]))
        fiber = Fiber(self, word_at(block, t["task.id"]), name, depth, record)
        fiber.site = t.site(word_at(block, t["task.spawned_at"]))
        fiber.nursery = self.nursery_name(word_at(block, t["task.parent"]))
        if not record:
            fiber.state = "has not started"
            if block[t["task.in_line"]]:
                most = read_word(self.at + t["scheduler.max_fibers"])
                fiber.state += ": it waits for one of the %d fibers to end" % most
        return fiber

    def nursery_name(self, nursery):
        if nursery == 0 or not self.table["libstdcxx"]:
            return ""
        if nursery not in self.nursery_names:
            size, at = struct.unpack("<QQ", read(nursery + self.table["nursery.name"], 16))
            self.nursery_names[nursery] = read_text(at, size)
        return self.nursery_names[nursery]

    def look(self, fiber, block):
        """The state of a fiber that has started."""
        t = self.table
        fiber.context = word_at(block, t["fiber.context"])
        if fiber.context == 0:  # its record lies on its stack
            fiber.state = "has a stack that is not in the core"
            return
        waiter = word_at(block, t["fiber.waiting_on"])
        if waiter:
            fiber.state = "waits for " + self.wait(waiter, block)
        else:
            fiber.state = "runs" if fiber.is_live() else "is ready"

    def wait(self, waiter, record):
        t = self.table
        block = read(waiter, t["list_waiter.who"] + 8)
        # A waiter in a list is its own node, and the node says so.
        if word_at(block, t["list_waiter.who"]) == waiter:
            lock = word_at(block, t["list_waiter.place"]) & ~3
            if lock == 0:
                return "its turn, which has come"
            what = read_c_string(read_word(lock + t["lock.what"]))
            return "%s made at %s" % (what, t.site(read_word(lock + t["lock.made_at"])))
        scope = word_at(record, t["fiber.outermost"])
        for _ in range(10000):
            if scope == 0:
                break
            nursery = read_word(scope + t["scope.nursery"])
            if nursery and read_word(nursery + t["nursery.joiner"]) == waiter:
                children = read_word(nursery + t["nursery.children"])
                return "its child" if children == 1 else "its %d children" % children
            scope = read_word(scope + t["scope.inner"])
        name, is_operation = t.wait(word_at(block, t["waiter.kind"]))
        if is_operation:
            (fd,) = struct.unpack("<i", read(waiter + t.operation_fd, 4))
            between = " descriptor " if name in ("readable", "writable") else " on descriptor "
            return name + between + str(fd)
        return name


def schedulers():
    """Those that have a run, the oldest first."""
    inferior = gdb.selected_inferior()
    if inferior is None or not inferior.threads():
        raise Refused("there is no process and no core")
    table = Table()
    found = []
    at = read_word(table.first_scheduler)
    while at and len(found) < 10000:
        if read_word(at + table["scheduler.current"]):
            found.append(Scheduler(table, at))
        at = read_word(at + table["scheduler.next_made"])
    if not found:
        raise Refused("no thread is inside io::run")
    found.reverse()
    return found


# ---- threads


def threads_by_pointer():
    """gdb's threads by their pthread_t, which x86-64 has in fs_base."""
    found = {}
    selected = gdb.selected_thread()
    try:
        for thread in gdb.selected_inferior().threads():
            if thread.is_running():
                continue
            thread.switch()
            try:
                found[int(gdb.parse_and_eval("(unsigned long)$fs_base"))] = thread
            except gdb.error:
                pass  # another machine
    finally:
        if selected is not None:
            selected.switch()
    return found


def thread_text(thread):
    if thread is None:
        return "a thread that gdb does not show"
    text = "thread %d (LWP %d)" % (thread.num, thread.ptid[1])
    return text + ' "%s"' % thread.name if thread.name else text


# ---- frames


class FrameId:
    def __init__(self, sp, pc):
        self.sp = sp
        self.pc = pc


class FiberUnwinder(Unwinder):
    """Plants a parked fiber's registers as the caller of the innermost frame of a thread.

    No register is written, so it works in a core, too. `top` is the stack pointer of the frame
    that gets the fiber as its caller; that frame itself is no part of the fiber.
    """

    def __init__(self):
        super().__init__("creel")
        self.fiber = None
        self.top = 0
        self.registers = {}

    def __call__(self, pending):
        if self.fiber is None or int(pending.read_register("rsp")) != self.top:
            return None
        # The id of that frame lies below every stack, or gdb takes the fiber's for a corrupt one.
        below = gdb.Value(16)
        info = pending.create_unwind_info(FrameId(below, pending.read_register("rip")))
        for name, value in self.registers.items():
            info.add_saved_register(name, gdb.Value(value))
        return info

    def plant(self, fiber, registers):
        self.remove()
        self.top = int(gdb.newest_frame().read_register("rsp"))
        self.registers = registers
        self.fiber = fiber
        gdb.invalidate_cached_frames()

    def remove(self):
        if self.fiber is not None:
            self.fiber = None
            gdb.invalidate_cached_frames()

    def first_frame(self):
        """The innermost frame of the fiber."""
        frame = gdb.newest_frame()
        while frame is not None and int(frame.read_register("rsp")) == self.top:
            frame = frame.older()
        if frame is None:
            raise Refused("gdb finds no frame of the fiber")
        return frame


unwinder = FiberUnwinder()
register_unwinder(None, unwinder, replace=True)


class OwnFrameFilter:
    """While a fiber is selected, `bt` leaves out the frame that is no part of it."""

    name = "creel"
    priority = 1000
    enabled = True

    def filter(self, frames):
        return (f for f in frames if int(f.inferior_frame().read_register("rsp")) != unwinder.top)


def saved_registers(fiber):
    """What the registers of a fiber are that does not run, by gdb's names."""
    at = address_of("creel_saved_registers")
    if at == 0:
        raise Refused("no symbol creel_saved_registers: no fiber's registers can be found")
    fields = struct.unpack("<IIIiiiiI", read(at, 32))
    version, known, machine, fiber_offset, pointer_offset, address, frame_bytes, count = fields
    if version != REGISTERS_VERSION:
        raise Refused("this script does not know version %d of creel_saved_registers" % version)
    if not known:
        raise Refused("the program does not know where Boost.Context saves registers")
    if machine not in REGISTER_NAMES:
        raise Refused("this script knows the registers of x86-64 only")
    names = REGISTER_NAMES[machine]
    pointer = read_word(fiber.context + fiber_offset + pointer_offset) if fiber.context else 0
    if pointer == 0:
        raise Refused("it has no saved registers: it runs, or it is being switched")
    values = {"rsp": pointer + frame_bytes, "rip": read_word(pointer + address)}
    for number, offset in struct.iter_unpack("<Ii", read(at + 32, 8 * count)):
        if number in names:
            values[names[number]] = read_word(pointer + offset)
    return {name: value - (1 << 64 if value >> 63 else 0) for name, value in values.items()}


LIBRARY_NAME = re.compile(r"(creel|boost|std)::|__invoke|(make|jump|ontop)_fcontext$|\?\?$")
THREAD_BOTTOM = re.compile(r"(start_thread|clone3?|_start|__libc_start\w*)$")
LIBRARY_FILE = re.compile(r"(.*/)?(creel/(fibers|sync|io)|boost|c\+\+/\d+)/")
A_FUNCTION, ITS_FILE = "'creel::park(creel::waiter&)'", "fibers/waiter.cpp"


def source_folders():
    """Where the sources of creel's library lie, as its debug information has it; or nothing."""
    symtab = gdb.find_pc_line(address_of(A_FUNCTION)).symtab
    if symtab is None or not symtab.filename.endswith(ITS_FILE):
        return ()
    top = symtab.filename[: -len(ITS_FILE)]
    return (top + "fibers/", top + "sync/", top + "io/")


def function_of(frame):
    """The function in the text of a frame, without its arguments and those of templates."""
    text = re.sub(r"^#\d+\s+(0x[0-9a-f]+ in )?", "", frame.split("\n")[0])
    for old, new in (("(anonymous namespace)", "{}"), ("operator()", "operator"), (") const", ")")):
        text = text.replace(old, new)
    text = re.sub(r"operator ?[-<>=!+*/|&^~%\[\],]+", "operator", text)
    kept = []
    depth = 0
    for c in text:
        if c == "(" and depth == 0 and kept and kept[-1] == " ":
            break  # the arguments as gdb prints them
        depth += c in "(<"
        if depth == 0:
            kept.append(c)
        depth -= c in ")>" and depth > 0
    return "".join(kept).strip().split(" ")[-1]


def is_plumbing(frame, folders):
    """True for functions of creel, Boost and the standard library. Without namespaces in the debug
    information (-g1) only the file tells."""
    file = re.search(r" at (.+):\d+$", frame)
    name = function_of(frame)
    return bool(
        LIBRARY_NAME.match(name)
        or THREAD_BOTTOM.match(name)
        or (file and (LIBRARY_FILE.match(file[1]) or file[1].startswith(folders)))
    )


def frames(full):
    """The backtrace of what is selected, as gdb prints it, a text for each frame. Unless it is to
    be full, of creel's, Boost's and the standard library's functions only those are in it that
    other functions have called."""
    text = gdb.execute("bt -no-filters 1000", to_string=True)
    found = re.split(r"\n(?=#\d)", text.rstrip("\n"))
    if unwinder.fiber is not None:
        first = unwinder.first_frame().level()
        found = [f for f in found if int(re.match(r"#(\d+)|", f).group(1) or 0) >= first]
    if full:
        return found
    folders = source_folders()
    hidden = [is_plumbing(f, folders) for f in found] + [True]
    return [f for i, f in enumerate(found) if not (hidden[i] and hidden[i + 1])]


class Look:
    """One look at the fibers; what was selected before is selected again behind it."""

    def __init__(self):
        self.threads = threads_by_pointer()

    def thread_of(self, fiber):
        return self.threads.get(fiber.scheduler.thread)

    def select(self, fiber):
        """Selects its thread, and plants its registers unless it has that thread's."""
        if fiber.record == 0:
            raise Refused("it has no stack yet")
        if fiber.context == 0:
            raise Refused("its stack is not in the core")
        thread = self.thread_of(fiber)
        if fiber.is_live():
            if thread is None:
                raise Refused("it has the registers of a thread that gdb does not show")
            unwinder.remove()
            thread.switch()
            return
        registers = saved_registers(fiber)
        if thread is not None:
            thread.switch()
        unwinder.plant(fiber, registers)

    def print_frames(self, fiber, full):
        try:
            self.select(fiber)
            found = frames(full)
        except Refused as why:
            print("  no backtrace: %s" % why)
            return
        for frame in found:
            print(frame)
        if not found:
            print("  no frame but those of libraries: -full shows them")


def forget_selection(_event=None):
    unwinder.fiber = None
    gdb.frame_filters.pop(OwnFrameFilter.name, None)


# ---- lists


def print_heading(look, scheduler):
    print("%s:" % thread_text(look.threads.get(scheduler.thread)))


def print_groups(fibers):
    groups = {}
    for fiber in fibers:
        groups.setdefault(fiber.group(), [fiber, 0])[1] += 1
    for first, count in sorted(groups.values(), key=lambda g: (-g[1], g[0].number)):
        print("  %s%s" % ("" if count == 1 else "%d like " % count, first.line()))


def list_fibers(most):
    look = Look()
    running = schedulers()
    for scheduler in running:
        print_heading(look, scheduler)
        fibers = []
        try:
            fibers.extend(scheduler.fibers())  # keeps those before a fault
        except (Refused, gdb.MemoryError) as fault:
            print("  the list is not complete: %s" % fault)
        if most is None and len(fibers) > LISTED:
            print_groups(fibers)
            print("  (%d, grouped: `creel fibers all` lists each)" % len(fibers))
            continue
        for fiber in fibers if most is None else fibers[:most]:
            print("%s%s" % ("  " * (1 + min(fiber.depth, DEEPEST_INDENT)), fiber.line()))
        if most is not None and len(fibers) > most:
            print("  (%s more: `creel fibers all` lists each)" % (len(fibers) - most))


def all_fibers():
    for scheduler in schedulers():
        yield from scheduler.fibers()


def find(number):
    for fiber in all_fibers():
        if fiber.number == number:
            return fiber
    raise Refused("there is no fiber #%d: `creel fibers` lists them" % number)


def backtraces(fibers, full):
    look = Look()
    selected = gdb.selected_thread()
    try:
        scheduler = None
        for fiber in fibers:
            if fiber.scheduler is not scheduler:
                scheduler = fiber.scheduler
                print_heading(look, scheduler)
            print(fiber.line())
            look.print_frames(fiber, full)
            print("")
    finally:
        unwinder.remove()
        if selected is not None:
            selected.switch()


# ---- commands


class CreelCommand(gdb.Command):
    """What all commands have: a fault is one line, and never a Python traceback."""

    def invoke(self, argument, from_tty):
        try:
            self.run(gdb.string_to_argv(argument))
        except Refused as why:
            raise gdb.GdbError("creel: %s" % why) from None
        except gdb.MemoryError as fault:
            raise gdb.GdbError(
                "creel: %s. Was the program stopped in the middle of a change, or is this part of "
                "its memory not in the core?" % fault
            ) from None
        except gdb.error as fault:
            raise gdb.GdbError("creel: %s" % fault) from None

    def run(self, arguments):
        raise Refused("what? `help creel` lists the commands")


class Prefix(CreelCommand):
    """Show the fibers of a program that uses creel.

    creel fibers            every fiber, and what it waits for
    creel fiber N           select a fiber: bt, up, down and info locals then mean it
    creel bt all            the backtraces of all fibers"""

    def __init__(self):
        super().__init__("creel", gdb.COMMAND_STACK, prefix=True)


class Fibers(CreelCommand):
    """List all fibers by thread, with what each waits for: creel fibers [all | MOST].

    If a thread has more than 100 they are grouped by spawn site, nursery and wait. `creel fibers
    all` lists each one, `creel fibers 500` the first 500."""

    def __init__(self):
        super().__init__("creel fibers", gdb.COMMAND_STACK)

    def run(self, arguments):
        if arguments in ([], ["all"]):
            list_fibers(None if not arguments else 1 << 62)
        elif len(arguments) == 1 and arguments[0].isdecimal():
            list_fibers(int(arguments[0]))
        else:
            raise Refused("usage: creel fibers [all | MOST]")


class SelectFiber(CreelCommand):
    """Select a fiber, by its number: creel fiber N [-full], creel fiber off.

    Shows what it waits for and its backtrace. Until `creel fiber off`, or until the program goes
    on, bt, up, down, frame and info locals mean this fiber. -full shows the frames
    inside libraries."""

    def __init__(self):
        super().__init__("creel fiber", gdb.COMMAND_STACK)

    def run(self, arguments):
        full = "-full" in arguments
        rest = [a.lstrip("#") for a in arguments if a != "-full"]
        if rest == ["off"] and not full:
            unwinder.remove()
            forget_selection()
            return
        if len(rest) != 1 or not rest[0].isdecimal():
            raise Refused("usage: creel fiber N [-full], creel fiber off")
        unwinder.remove()
        forget_selection()
        fiber = find(int(rest[0]))
        print(fiber.line())
        Look().select(fiber)
        found = frames(full)
        for frame in found:
            print(frame)
        if unwinder.fiber is not None:
            gdb.frame_filters[OwnFrameFilter.name] = OwnFrameFilter()
            frame = unwinder.first_frame()
            level = int(re.match(r"#(\d+)", found[0]).group(1)) if found else 0
            while frame.level() < level and frame.older() is not None:
                frame = frame.older()
            frame.select()


class Backtraces(CreelCommand):
    """Show backtraces of fibers: creel bt all [-full] [-limit MOST], creel bt N [-full].

    With more than 100 fibers `creel bt all` shows the first fiber of those that have the same
    spawn site, nursery and wait. -limit 500 shows the first 500 instead, -limit 0 all of them.
    -full shows the frames
    inside libraries, too."""

    def __init__(self):
        super().__init__("creel bt", gdb.COMMAND_STACK)

    def run(self, arguments):
        usage = "usage: creel bt all [-full] [-limit MOST], creel bt N [-full]"
        full = "-full" in arguments
        rest = [a.lstrip("#") for a in arguments if a != "-full"]
        limit = None
        if len(rest) == 3 and rest[1] == "-limit" and rest[2].isdecimal():
            limit = int(rest[2])
            rest = rest[:1]
        unwinder.remove()
        forget_selection()
        if len(rest) != 1:
            raise Refused(usage)
        if rest[0].isdecimal() and limit is None:
            backtraces([find(int(rest[0]))], full)
        elif rest[0] == "all":
            self.show_all(full, limit)
        else:
            raise Refused(usage)

    def show_all(self, full, limit):
        if limit:
            fibers = all_fibers()
            backtraces(list(itertools.islice(fibers, limit)), full)
            if next(fibers, None) is not None:
                print("(there are more: -limit 0 shows all)")
            return
        fibers = list(all_fibers())
        if limit == 0 or len(fibers) <= LISTED:
            backtraces(fibers, full)
            return
        groups = {}
        for fiber in fibers:
            groups.setdefault((fiber.scheduler.at, fiber.group()), []).append(fiber)
        for group in groups.values():
            if len(group) > 1:
                group[0].state += " (%d more like it)" % (len(group) - 1)
        backtraces([group[0] for group in groups.values()], full)
        print("(one of each group: `creel bt all -limit 0` shows all %d)" % len(fibers))


gdb.events.cont.connect(forget_selection)
gdb.events.exited.connect(forget_selection)
Prefix()
Fibers()
SelectFiber()
Backtraces()
