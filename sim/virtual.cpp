// A board without the board: the top level's Verilog with its UART pins behind a pseudo-terminal.
//
//     board CLOCK BAUD [FLASH-IMAGE OFFSET]
//
// The first line of standard output names the terminal. Each line on standard input is then a command, answered by a
// line that tells the board's state as JSON; the process ends with its standard input.
//
//     state                     nothing but the answer
//     power                     off and on again
//     noise FLIP DROP REPEAT SEED
//                               from now on, the chance of each byte of the line, in either direction, to have a bit
//                               flipped, to be lost, and to come twice
//
// The virtual clock runs as fast as it can while a byte is on its way or the board says that it is busy, and stops
// otherwise. So cycles are those of a host that answers at once, and an idle board takes no processor time.

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <deque>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "Vtop.h"

namespace {

// Ports that not every top level has. One without `busy` may always be at work.
template <class Model> bool busy(const Model& model) {
    if constexpr (requires { model.busy; }) return model.busy;
    else return true;
}
template <class Model> long loaded(const Model& model) {
    if constexpr (requires { model.loaded; }) return model.loaded;
    else return -1;
}
template <class Model> long winner(const Model& model) {
    if constexpr (requires { model.winner; }) return model.winner;
    else return -1;
}
template <class Model> constexpr bool says_busy = requires(Model model) { model.busy; };

// Faults of the line.
class Noise {
  public:
    void set(double flip, double drop, double repeat, unsigned seed) {
        flip_ = flip, drop_ = drop, repeat_ = repeat;
        random_.seed(seed);
    }

    // How often a byte arrives; what arrives may have changed.
    int pass(uint8_t& byte) {
        if (flip_ == 0 && drop_ == 0 && repeat_ == 0) return 1;
        const double chance = draw();
        if (chance < drop_) return count(0);
        if (chance < drop_ + repeat_) return count(2);
        if (chance < drop_ + repeat_ + flip_) {
            byte ^= 1 << (random_() & 7);
            return count(1);
        }
        return 1;
    }

    uint64_t faults = 0;

  private:
    double draw() { return std::uniform_real_distribution<>()(random_); }
    int count(int times) {
        ++faults;
        return times;
    }

    double flip_ = 0, drop_ = 0, repeat_ = 0;
    std::mt19937_64 random_;
};

// Bit times of the line in clock cycles, which need not be a whole number.
struct Rate {
    uint64_t clock, baud;
};

// The host's transmitter.
class Sender {
  public:
    explicit Sender(Rate rate) : rate_(rate) {}

    std::deque<uint8_t> queue;
    uint64_t sent = 0;

    bool idle() const { return left_ == 0 && queue.empty(); }

    // One clock cycle; the level of the line.
    bool step() {
        if (left_ == 0) {
            if (queue.empty()) return true;
            shift_ = 0x200 | queue.front() << 1;
            queue.pop_front();
            left_ = 10;
            ++sent;
        }
        const bool level = shift_ & 1;
        phase_ += rate_.baud;
        if (phase_ >= rate_.clock) {
            phase_ -= rate_.clock;
            shift_ >>= 1;
            --left_;
        }
        return level;
    }

  private:
    Rate rate_;
    uint64_t phase_ = 0;
    unsigned shift_ = 0, left_ = 0;
};

// The host's receiver.
class Receiver {
  public:
    explicit Receiver(Rate rate) : rate_(rate) {}

    uint64_t received = 0, malformed = 0;

    bool idle() const { return left_ == 0 && !broken_; }

    // One clock cycle at this level of the line; whether `byte` is a new one.
    bool step(bool level) {
        if (broken_) {  // a missing stop bit: the line first has to be idle again
            broken_ = !level;
            return false;
        }
        if (left_ == 0) {
            if (!level) left_ = 10, phase_ = rate_.clock / 2;
            return false;
        }
        phase_ += rate_.baud;
        if (phase_ < rate_.clock) return false;
        phase_ -= rate_.clock;
        --left_;
        if (left_ == 9) {
            if (level) left_ = 0;  // too short for a start bit
        } else if (left_ != 0) {
            byte = byte >> 1 | level << 7;
        } else if (level) {
            ++received;
            return true;
        } else {
            ++malformed;
            broken_ = true;
        }
        return false;
    }

    uint8_t byte = 0;

  private:
    Rate rate_;
    uint64_t phase_ = 0;
    unsigned left_ = 0;
    bool broken_ = false;
};

// An SPI flash, as far as reading goes: release from power-down (AB) and read (03). It begins powered down, as
// configuration leaves it on many boards, and needs some microseconds to wake.
class Flash {
  public:
    Flash(std::vector<uint8_t> content, uint64_t offset, uint64_t waking)
        : content_(std::move(content)), offset_(offset), waking_(waking) {}

    void power() { awake_ = 0, woken_ = false, bits_ = 0, clk_ = false; }

    // The level of its data output at these levels of its inputs.
    bool step(bool cs, bool clk, bool copi, uint64_t cycle) {
        if (cs) {
            if (bits_ >= 8 && command_ == 0xAB && !woken_) woken_ = true, awake_ = cycle + waking_;
            bits_ = 0;
        } else if (clk && !clk_) {
            if (bits_ < 8) command_ = command_ << 1 | copi;
            else if (bits_ < 32) address_ = (address_ << 1 | copi) & 0xFFFFFF;
            ++bits_;
        } else if (!clk && clk_ && bits_ >= 32) {
            const uint64_t at = (address_ + (bits_ - 32) / 8) & 0xFFFFFF;
            const bool answers = command_ == 0x03 && woken_ && cycle >= awake_;
            const uint8_t byte = answers && at >= offset_ && at - offset_ < content_.size() ? content_[at - offset_] : 0xFF;
            cipo_ = byte >> (7 - bits_ % 8) & 1;
        }
        clk_ = clk;
        return cipo_;
    }

  private:
    std::vector<uint8_t> content_;
    uint64_t offset_, waking_, awake_ = 0, bits_ = 0;
    uint32_t address_ = 0;
    uint8_t command_ = 0;
    bool woken_ = false, clk_ = false, cipo_ = true;
};

template <class Model> class Board {
  public:
    Board(Rate rate, Flash flash) : rate_(rate), sender_(rate), receiver_(rate), flash_(std::move(flash)) { power(); }

    void power() {
        model_ = std::make_unique<Model>();
        model_->rx = 1;
        flash_.power();
        quiet_ = silent_ = 0;
    }

    void cycle_once() {
        model_->rx = sender_.step();
        model_->clk = 0;
        model_->eval();
        model_->clk = 1;
        model_->eval();
        ++cycle;
        if constexpr (requires { model_->flash_clk; })
            model_->flash_cipo = flash_.step(model_->flash_cs, model_->flash_clk, model_->flash_copi, cycle);
        if (receiver_.step(model_->tx)) {
            uint8_t byte = receiver_.byte;
            for (int times = to_host.pass(byte); times > 0; --times) output.push_back(byte);
        }
        silent_ = sender_.idle() && receiver_.idle() ? silent_ + 1 : 0;
        quiet_ = silent_ && !busy(*model_) ? quiet_ + 1 : 0;
    }

    void put(uint8_t byte) {
        for (int times = to_board.pass(byte); times > 0; --times) sender_.queue.push_back(byte);
    }

    bool wants() const { return sender_.idle(); }

    // Nothing goes on. What a byte sets off shows in `busy` a few cycles later. After a longer silence a busy board only
    // waits for the rest of something; one that does not say when it is busy gets less.
    bool resting() const { return quiet_ >= 64 || silent_ >= (says_busy<Model> ? 1 << 26 : 1 << 18); }

    std::string state() const {
        std::ostringstream text;
        text << "{\"cycle\": " << cycle << ", \"busy\": " << (resting() ? "false" : "true")
             << ", \"loaded\": " << loaded(*model_) << ", \"winner\": " << winner(*model_)
             << ", \"sent\": " << receiver_.received << ", \"received\": " << sender_.sent
             << ", \"malformed\": " << receiver_.malformed << ", \"lost\": " << lost
             << ", \"faults\": " << to_board.faults + to_host.faults << "}";
        return text.str();
    }

    uint64_t cycle = 0, lost = 0;
    Noise to_board, to_host;
    std::vector<uint8_t> output;

  private:
    Rate rate_;
    Sender sender_;
    Receiver receiver_;
    Flash flash_;
    std::unique_ptr<Model> model_;
    uint64_t quiet_ = 0, silent_ = 0;
};

[[noreturn]] void fail(const char* what) {
    perror(what);
    exit(1);
}

// The host's end stays open here too, so that the terminal outlives the host that uses it.
int open_terminal() {
    const int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
    if (terminal < 0 || grantpt(terminal) || unlockpt(terminal)) fail("pseudo-terminal");
    const int end = open(ptsname(terminal), O_RDWR | O_NOCTTY);
    termios settings;
    if (end < 0 || tcgetattr(end, &settings)) fail("pseudo-terminal");
    cfmakeraw(&settings);
    if (tcsetattr(end, TCSANOW, &settings)) fail("pseudo-terminal");
    return terminal;
}

template <class Model> void obey(Board<Model>& board, const std::string& line) {
    std::istringstream words(line);
    std::string command;
    words >> command;
    if (command == "power") {
        board.power();
    } else if (command == "noise") {
        double flip = 0, drop = 0, repeat = 0;
        unsigned seed = 0;
        words >> flip >> drop >> repeat >> seed;
        board.to_board.set(flip, drop, repeat, seed);
        board.to_host.set(flip, drop, repeat, ~seed);
    }
    printf("%s\n", board.state().c_str());
    fflush(stdout);
}

template <class Model> void serve(Board<Model>& board, int terminal) {
    std::string commands;
    pollfd sources[] = {{terminal, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
    for (uint64_t turn = 0;; ++turn) {
        const bool resting = board.resting();
        if (resting || turn % 128 == 0) {
            poll(sources, 2, resting ? -1 : 0);
            if (sources[1].revents) {
                char text[256];
                const ssize_t size = read(STDIN_FILENO, text, sizeof text);
                if (size <= 0) return;
                commands.append(text, size);
                for (size_t end; (end = commands.find('\n')) != std::string::npos; commands.erase(0, end + 1))
                    obey(board, commands.substr(0, end));
            }
        }
        if (board.wants()) {
            uint8_t bytes[256];
            const ssize_t size = read(terminal, bytes, sizeof bytes);
            for (ssize_t n = 0; n < size; ++n) board.put(bytes[n]);
            if (size <= 0 && resting) continue;
        }
        for (int cycles = 0; cycles < 32; ++cycles) board.cycle_once();
        if (!board.output.empty()) {
            // Like a bridge, the line does not wait: what a host leaves unread too long is lost.
            const ssize_t size = write(terminal, board.output.data(), board.output.size());
            board.lost += board.output.size() - (size > 0 ? size : 0);
            board.output.clear();
        }
    }
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 3 && count != 5) {
        fprintf(stderr, "usage: board CLOCK BAUD [FLASH-IMAGE OFFSET]\n");
        return 2;
    }
    const Rate rate{std::stoull(arguments[1]), std::stoull(arguments[2])};
    std::vector<uint8_t> image;
    uint64_t offset = 0;
    if (count == 5) {
        std::ifstream file(arguments[3], std::ios::binary);
        if (!file) fail(arguments[3]);
        image.assign(std::istreambuf_iterator<char>(file), {});
        offset = std::stoull(arguments[4]);
    }
    Board<Vtop> board(rate, Flash(std::move(image), offset, rate.clock * 3 / 1'000'000));
    const int terminal = open_terminal();
    printf("%s\n", ptsname(terminal));
    fflush(stdout);
    serve(board, terminal);
}
