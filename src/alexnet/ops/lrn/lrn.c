/* Local response normalisation of rows of channels, or of windows of maps, forward and backward, for float or (-DBF16)
 * bfloat16 memory. lrn_operation.py has the formulas, kernel.py compiles this.
 *
 * A few rows at a time are copied as floats between zeros, so that no window needs a bound; a few, because a window that
 * is read straight after it was written waits for it. Memory is then what takes the time. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#define WIDEST 4096 /* channels and window together: the most that kernel.py sends */
#define BLOCK 512   /* floats worked on at a time, where a row is shorter */

#define INLINE static inline __attribute__((always_inline))
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(ONE_MACHINE) /* a cluster's: one file */
#define ANY_MACHINE __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"), noinline))
#else
#define ANY_MACHINE __attribute__((noinline))
#endif

#ifdef BF16
typedef uint16_t number;
#define EXACT 0
INLINE float load(number v) {
    uint32_t bits = (uint32_t)v << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}
INLINE number store(float f) { /* to nearest, ties to even; a NaN here is x's or the processor's, and stays one */
    uint32_t bits;
    memcpy(&bits, &f, 4);
    return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}
#else
typedef float number;
#define EXACT 1
INLINE float load(number v) { return v; }
INLINE number store(float f) { return f; }
#endif

/* d^-beta, and 1 / d. For beta = 0.75 by y = d^-1/4: a quarter of the exponent's bits comes near, a parabola fitted to
 * what that leaves is right to 5e-5, and a step of Newton's to what float holds. In bfloat16, which rounds by 4e-3, the
 * parabola does. Two roots and a division take three times as long. */
INLINE float power(float d, float beta, float *inverse) {
    if (beta != 0.75f) {
        *inverse = 1 / d;
        return powf(d, -beta);
    }
    d = d > 3e38f ? 3e38f : d; /* infinity; NaN stays */
    uint32_t bits;
    float y, miss;
    memcpy(&bits, &d, 4);
    bits = 0x4f500000 - (bits >> 2);
    memcpy(&y, &bits, 4);
    miss = 1 - d * (y * y) * (y * y);
    y *= 1.0003999471664429f + miss * (0.23973700404167175f + miss * 0.22689099609851837f);
    if (EXACT) {
        miss = 1 - d * (y * y) * (y * y);
        y += y * miss * 0.25f;
    }
    *inverse = (y * y) * (y * y);
    return y * y * y;
}

typedef struct {
    int channels, before, size; /* a window of `size` channels begins `before` its own */
    float alpha, beta, k;
} constants;

/* The block's squares, each row between zeros. */
INLINE void square(const number *restrict x, float *restrict squares, int rows, int c, int before, int wide) {
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < c; i++) squares[r * wide + before + i] = load(x[r * c + i]) * load(x[r * c + i]);
}

INLINE float sum(const float *window, int size) {
    float total = 0;
    for (int j = 0; j < size; j++) total += window[j];
    return total;
}

INLINE void forward_rows(const number *restrict x, number *restrict y, long rows, constants a) {
    float squares[WIDEST + BLOCK], inverse;
    int c = a.channels, wide = c + a.size, most = BLOCK > wide ? BLOCK / wide : 1;
    memset(squares, 0, sizeof(float) * most * wide);
    for (long done = 0; done < rows; done += most, x += most * c, y += most * c) {
        int n = rows - done < most ? rows - done : most;
        square(x, squares, n, c, a.before, wide);
        for (int r = 0; r < n; r++)
            for (int i = 0; i < c; i++) {
                float d = a.k + a.alpha * sum(squares + r * wide + i, a.size);
                y[r * c + i] = store(load(x[r * c + i]) * power(d, a.beta, &inverse));
            }
    }
}

INLINE void backward_rows(const number *restrict x, const number *restrict g, number *restrict dx, long rows,
                          constants a) {
    float squares[WIDEST + BLOCK], scale[WIDEST + BLOCK], inner[WIDEST + BLOCK], inverse;
    int c = a.channels, wide = c + a.size, after = a.size - 1 - a.before, most = BLOCK > wide ? BLOCK / wide : 1;
    memset(squares, 0, sizeof(float) * most * wide);
    memset(inner, 0, sizeof(float) * most * wide);
    for (long done = 0; done < rows; done += most, x += most * c, g += most * c, dx += most * c) {
        int n = rows - done < most ? rows - done : most;
        square(x, squares, n, c, a.before, wide);
        for (int r = 0; r < n; r++)
            for (int i = 0; i < c; i++) {
                float d = a.k + a.alpha * sum(squares + r * wide + i, a.size);
                float scaled = load(g[r * c + i]) * power(d, a.beta, &inverse);
                scale[r * wide + i] = scaled;
                inner[r * wide + after + i] = scaled * load(x[r * c + i]) * inverse;
            }
        for (int r = 0; r < n; r++)
            for (int i = 0; i < c; i++) {
                float others = 2 * a.alpha * a.beta * sum(inner + r * wide + i, a.size);
                dx[r * c + i] = store(scale[r * wide + i] - load(x[r * c + i]) * others);
            }
    }
}

/* The paper's window and power, which the compiler then knows: it unrolls the one and drops the other. */
#define KNOWN(a) ((constants){(a).channels, 2, 5, (a).alpha, 0.75f, (a).k})
#define IS_KNOWN(a) ((a).size == 5 && (a).beta == 0.75f)

ANY_MACHINE static void forward(const number *x, number *y, long rows, constants a) {
    if (IS_KNOWN(a))
        forward_rows(x, y, rows, KNOWN(a));
    else
        forward_rows(x, y, rows, a);
}

ANY_MACHINE static void backward(const number *x, const number *g, number *dx, long rows, constants a) {
    if (IS_KNOWN(a))
        backward_rows(x, g, dx, rows, KNOWN(a));
    else
        backward_rows(x, g, dx, rows, a);
}

/* y of x, or with a gradient g of y that of x. */
void lrn(const number *x, const number *g, number *out, long rows, constants a, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int t = 0; t < threads; t++) {
        long from = rows * t / threads, n = rows * (t + 1) / threads - from, at = from * a.channels;
        if (g)
            backward(x + at, g + at, out + at, n, a);
        else
            forward(x + at, out + at, n, a);
    }
}

/* Windows along the middle of (outer, n, inner): each begins `before` its place and is cut off at the ends. */
INLINE void slide(const float *restrict in, float *restrict out, int outer, int n, int inner, int before, int size) {
    for (int o = 0; o < outer; o++, in += n * inner, out += n * inner)
        for (int i = 0; i < n; i++) {
            int first = i - before, end = first + size > n ? n : first + size;
            float *restrict to = out + i * inner;
            first = first < 0 ? 0 : first;
            for (int j = 0; j < inner; j++) to[j] = in[first * inner + j];
            for (int u = first + 1; u < end; u++)
                for (int j = 0; j < inner; j++) to[j] += in[u * inner + j];
        }
}

/* In `values` its sums over size x size places; `rows` is room for as many. */
INLINE void slide_both(float *restrict values, float *restrict rows, int height, int width, int before, constants a) {
    slide(values, rows, height, width, a.channels, before, a.size);
    slide(rows, values, 1, height, width * a.channels, before, a.size);
}

/* One image, (height, width, channels). room: floats, three times as many as it has values. */
INLINE void map_of(const number *restrict x, const number *restrict g, number *restrict out, int height, int width,
                   constants a, float *restrict room) {
    int n = height * width * a.channels, after = a.size - 1 - a.before;
    float *restrict values = room, *restrict rows = room + n, *restrict scale = room + 2 * (long)n, inverse;
    for (int i = 0; i < n; i++) values[i] = load(x[i]) * load(x[i]);
    slide_both(values, rows, height, width, a.before, a);
    if (!g) {
        for (int i = 0; i < n; i++) out[i] = store(load(x[i]) * power(a.k + a.alpha * values[i], a.beta, &inverse));
        return;
    }
    for (int i = 0; i < n; i++) {
        scale[i] = load(g[i]) * power(a.k + a.alpha * values[i], a.beta, &inverse);
        values[i] = scale[i] * load(x[i]) * inverse;
    }
    slide_both(values, rows, height, width, after, a);
    float factor = 2 * a.alpha * a.beta;
    for (int i = 0; i < n; i++) out[i] = store(scale[i] - load(x[i]) * factor * values[i]);
}

ANY_MACHINE static void map(const number *x, const number *g, number *out, int height, int width, constants a,
                            float *room) {
    if (a.beta == 0.75f) {
        a.beta = 0.75f; /* which the compiler then knows */
        map_of(x, g, out, height, width, a, room);
    } else
        map_of(x, g, out, height, width, a, room);
}

/* The same of windows of maps: x, g and out are (images, height, width, channels). */
void lrn_map(const number *x, const number *g, number *out, long images, int height, int width, constants a, float *room,
             int threads) {
    long n = (long)height * width * a.channels;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int t = 0; t < threads; t++)
        for (long i = images * t / threads; i < images * (t + 1) / threads; i++)
            map(x + i * n, g ? g + i * n : 0, out + i * n, height, width, a, room + 3 * n * t);
}
