#include <creel/fibers/detail/inspect/debugger_table.hpp>

#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/wait_list.hpp>

#include <algorithm>
#include <cstddef>
#include <iterator>

// gdb executes the text of this section, which is a part of the program's file and of no process,
// if its auto-load safe-path allows it (gdb's manual, "The .debug_gdb_scripts section"). The linker
// keeps one copy. `strip -g` drops it.
#ifdef CREEL_GDB_SCRIPT
asm(".pushsection \".debug_gdb_scripts\", \"MS\", %progbits, 1\n"
    ".byte 4\n" // a Python script follows
    ".ascii \"gdb.inlined-script.creel\\n\"\n"
    ".incbin \"" CREEL_GDB_SCRIPT "\"\n"
    ".byte 0\n"
    ".popsection\n");
#endif

// GCC and clang know these offsets also where the standard leaves them open: in classes with bases,
// none of which is virtual.
#pragma GCC diagnostic ignored "-Winvalid-offsetof"
#ifndef __clang__ // GCC asks whether the friend of a template is to be a template. It is not.
#pragma GCC diagnostic ignored "-Wnon-template-friend"
#endif

namespace creel::detail {

namespace {

using entry = debugger_table::entry;

struct entry_name {
    template <std::size_t Bytes>
    consteval entry_name(const char (&literal)[Bytes]) { // NOLINT
        static_assert(Bytes <= sizeof text);
        std::copy_n(literal, Bytes, text);
    }
    char text[sizeof entry::name]{};
};

// The names in an explicit instantiation are not checked for access ([temp.spec.general]/6). So it
// may name private members, and no class needs to know that a debugger looks at it.
template <entry_name Name>
struct named {
    friend constexpr auto found(named) noexcept;
};
template <entry_name Name, auto Found>
struct private_member {
    friend constexpr auto found(named<Name>) noexcept { return Found; }
};

template struct private_member<"scheduler.all", &scheduler::all_>;
template struct private_member<"scheduler.next_made", offsetof(scheduler, next_made_)>;
template struct private_member<"scheduler.current", offsetof(scheduler, current_)>;
template struct private_member<"scheduler.main", offsetof(scheduler, main_)>;
template struct private_member<"scheduler.thread", offsetof(scheduler, thread_)>;
template struct private_member<"scheduler.natives", offsetof(scheduler, natives_.records_.living_)>;
template struct private_member<"scheduler.max_fibers", offsetof(scheduler, options_.max_fibers)>;
template struct private_member<"waiter.kind", offsetof(waiter, kind_)>;
template struct private_member<"list_waiter.place", offsetof(list_waiter, place_)>;
template struct private_member<"list_waiter.who", offsetof(list_waiter, who_)>;
template struct private_member<"lock.what", offsetof(wait_lock, label_.what)>;
template struct private_member<"lock.made_at", offsetof(wait_lock, label_.made_at)>;

template <entry_name Name>
consteval entry with(std::uint64_t value) {
    entry made{{}, value};
    std::copy_n(Name.text, sizeof Name.text, made.name);
    return made;
}
template <entry_name Name>
consteval entry private_entry() {
    return with<Name>(found(named<Name>{}));
}

// The script knows the members of std::string, std::string_view and std::unordered_map in this
// library only.
#if defined(__GLIBCXX__) && !defined(_GLIBCXX_DEBUG) && _GLIBCXX_USE_CXX11_ABI
constexpr bool is_plain_libstdcxx = true;
#else
constexpr bool is_plain_libstdcxx = false;
#endif

constexpr entry entries[] = {
    with<"libstdcxx">(is_plain_libstdcxx),
    private_entry<"scheduler.next_made">(),
    private_entry<"scheduler.current">(),
    private_entry<"scheduler.main">(),
    private_entry<"scheduler.thread">(),
    private_entry<"scheduler.natives">(),
    private_entry<"scheduler.max_fibers">(),
    with<"fiber.bytes">(sizeof(fiber_record)),
    with<"fiber.id">(offsetof(fiber_record, id)),
    with<"fiber.context">(offsetof(fiber_record, context)),
    with<"fiber.task">(offsetof(fiber_record, current)),
    with<"fiber.waiting_on">(offsetof(fiber_record, waiting_on)),
    with<"fiber.outermost">(offsetof(fiber_record, outermost)),
    with<"task.bytes">(sizeof(task_record)),
    with<"task.next">(offsetof(task_record, next)),
    with<"task.parent">(offsetof(task_record, parent)),
    with<"task.runner">(offsetof(task_record, runner)),
    with<"task.kind">(offsetof(task_record, kind_of_closure)),
    with<"task.id">(offsetof(task_record, id)),
    with<"task.spawned_at">(offsetof(task_record, spawned_at)),
    with<"task.name">(offsetof(task_record, given_name)),
    with<"task.in_line">(offsetof(task_record, in_line)),
    with<"task_kind.label">(offsetof(closure_kind, label.call)),
    with<"task_kind.number">(offsetof(closure_kind, label.number)),
    with<"scope.inner">(offsetof(scope_core, inner)),
    with<"scope.nursery">(offsetof(scope_core, nursery)),
    with<"nursery.first_child">(offsetof(nursery_core, first_child)),
    with<"nursery.children">(offsetof(nursery_core, children)),
    with<"nursery.joiner">(offsetof(nursery_core, joiner)),
    with<"nursery.name">(offsetof(nursery_core, name)),
    private_entry<"waiter.kind">(),
    with<"waiter_kind.describe">(offsetof(waiter_kind, describe)),
    private_entry<"list_waiter.place">(),
    private_entry<"list_waiter.who">(),
    private_entry<"lock.what">(),
    private_entry<"lock.made_at">(),
};

} // namespace

} // namespace creel::detail

constinit const creel::detail::debugger_table creel_debugger_table{
    creel::detail::debugger_table::this_version, std::size(creel::detail::entries),
    creel::detail::entries, found(creel::detail::named<"scheduler.all">{})};
