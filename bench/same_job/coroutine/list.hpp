#pragma once

// A list whose nodes lie in the objects that wait: no allocation, and a node leaves in one step.

namespace same_job::coroutine {

template <class T>
class list;

// An object is in one list<T> for each list_node<T> that it derives from.
template <class T>
class list_node {
public:
    list_node() = default;
    list_node(const list_node&) = delete;
    list_node& operator=(const list_node&) = delete;
    ~list_node() { unlink(); }

    [[nodiscard]] bool linked() const noexcept { return next_ != this; }
    void unlink() noexcept {
        previous_->next_ = next_;
        next_->previous_ = previous_;
        next_ = previous_ = this;
    }

private:
    friend class list<T>;
    list_node* next_ = this;
    list_node* previous_ = this;
};

template <class T>
class list {
public:
    [[nodiscard]] bool empty() const noexcept { return !end_.linked(); }
    void push_back(T& item) noexcept {
        list_node<T>& node = item;
        node.previous_ = end_.previous_;
        node.next_ = &end_;
        end_.previous_->next_ = &node;
        end_.previous_ = &node;
    }
    // The list must not be empty.
    T& pop_front() noexcept {
        list_node<T>& node = *end_.next_;
        node.unlink();
        return static_cast<T&>(node);
    }

private:
    list_node<T> end_;
};

} // namespace same_job::coroutine
