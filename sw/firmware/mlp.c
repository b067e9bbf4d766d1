/* Forward, backward and update of the perceptron. */

#include "mlp.h"

#include "backbeat.h"

/* The products of a step, in the order of their descriptors: two chains. HIDDEN and LOGITS are the next
 * step's, and the CPU goes on with them while the core computes the low digits. */
enum { HIDDEN_GRADIENT, STEP_2, STEP_1, HIGH, HIDDEN, LOGITS, LOW, PRODUCTS };
/* What random numbers are for. */
enum { DRAW_SOFTMAX, DRAW_HIDDEN, DRAW_STEP_2, DRAW_STEP_1, DRAW_EPOCH, DRAWS = 8 };
enum { QUOTIENT_BITS = 24, BASE = 127, LARGEST = 127 * 127 + 63 };

/* Steps of even and odd number differ in the planes that high digits are read from and written to. */
static struct bb_product products[2][PRODUCTS];
static struct bb_requantise specs[2][PRODUCTS];
static struct bb_descriptor *descriptors;
/* A batch: its first row and the distance of its rows. */
struct batch { uint32_t first, stride; };
static struct batch batch, next;
static uint32_t softmax_seed;

/* Short loops whose values wait for each other: four rounds side by side. */
#ifdef __clang__
#define UNROLL _Pragma("unroll 4")
#else
#define UNROLL _Pragma("GCC unroll 4")
#endif

static void *at(uint32_t address) { return (void *)(uintptr_t)address; }

static int8_t *high_plane(const struct mlp_table *t, uint32_t step)
{
    return (int8_t *)at(t->planes) + (step & 1 ? 3 : 0) * t->plane;
}

static struct batch batch_of(const struct mlp_table *t, uint32_t step)
{
    uint32_t count = t->rows / t->batch, epoch = step / count, number = step - epoch * count;
    uint32_t bits = bb_random_bits(t->seed, DRAWS * epoch + DRAW_EPOCH);
    uint32_t stride = ((const uint32_t *)at(t->strides))[(bits & 0xffff) % t->stride_count];
    uint32_t offset = (bits >> 16) % t->rows;
    return (struct batch){(offset + number * stride * t->batch) % t->rows, stride};
}

/* The products of steps of that parity; the logits are those of the step after it. */
static void define(const struct mlp_table *t, uint32_t parity)
{
    struct bb_product *p = products[parity];
    int8_t *planes = at(t->planes), *old = high_plane(t, parity), *new = high_plane(t, parity + 1);
    int8_t *low = planes + t->plane, *g = low + t->plane;
    const uint32_t width = t->plane / t->block;
    /* From the last row of a block in one plane to its first row in the next. */
    const int32_t wrap = (parity ? -(int32_t)t->plane : (int32_t)t->plane)
                         - (int32_t)((t->block - 1) * width);
    p[HIDDEN_GRADIENT] = (struct bb_product){
        .a = at(t->dz), .b = old + t->w2, .c = at(t->dh), .m = t->batch, .n = t->hidden, .k = t->classes,
        .a_pitch = t->z_pitch, .b_pitch = t->h_pitch, .c_pitch = t->h_pitch, .b_across = 1};
    p[STEP_2] = (struct bb_product){
        .a = at(t->dz), .b = at(t->h), .c = g + t->w2, .m = t->classes, .n = t->h_pitch, .k = t->batch,
        .a_pitch = t->z_pitch, .b_pitch = t->h_pitch, .c_pitch = t->h_pitch,
        .a_across = 1, .b_across = 1};
    p[STEP_1] = (struct bb_product){
        .a = at(t->dh), .c = g, .m = t->hidden, .n = t->x_pitch, .k = t->batch,
        .a_pitch = t->h_pitch, .c_pitch = t->x_pitch, .a_across = 1, .b_across = 1};
    p[HIGH] = (struct bb_product){
        .a = at(t->coefficients), .b = old, .c = new, .m = t->block, .n = width, .k = 3 * t->block,
        .a_pitch = 4 * t->block, .b_pitch = width, .c_pitch = width, .b_across = 1,
        .b_group = t->block, .b_wrap = wrap, .fence = 1};
    p[LOW] = p[HIGH];
    p[LOW].c = low;
    p[LOW].k = 4 * t->block;
    p[LOW].fence = 0;       /* LOGITS has one */
    p[HIDDEN] = (struct bb_product){
        .b = new, .c = at(t->h), .m = t->batch, .n = t->hidden, .k = t->x_pitch,
        .b_pitch = t->x_pitch, .c_pitch = t->h_pitch, .fence = 1};
    p[LOGITS] = (struct bb_product){
        .a = at(t->h), .b = new + t->w2, .c = at(t->z), .m = t->batch, .n = t->classes, .k = t->h_pitch,
        .a_pitch = t->h_pitch, .b_pitch = t->h_pitch, .c_pitch = t->z_pitch, .fence = 1};

    struct bb_requantise *q = specs[parity];
    const uint32_t columns[PRODUCTS] = {
        [HIDDEN_GRADIENT] = t->hidden_gradient_columns, [STEP_2] = t->step_2_columns,
        [STEP_1] = t->step_1_columns, [HIGH] = t->high_columns, [LOW] = t->low_columns,
        [HIDDEN] = t->hidden_columns, [LOGITS] = t->logits_columns};
    for (unsigned i = 0; i < PRODUCTS; i++) {
        q[i] = (struct bb_requantise){.columns = at(columns[i]), .low = -127, .high = 127,
                                      .stochastic = i <= STEP_1};
        p[i].requantise = &q[i];
    }
    q[HIDDEN].low = 0;
    q[LOW].low = -63;
    q[LOW].high = 63;
}

/* The rows that come next are A of the forward product; those of this step are B of the gradient. */
static void use(const struct mlp_table *t, uint32_t parity, unsigned product, struct batch rows)
{
    struct bb_product *p = &products[parity][product];
    const void *x = (int8_t *)at(t->x) + rows.first * t->x_pitch;
    const uint32_t pitch = rows.stride * t->x_pitch;
    if (product == HIDDEN) p->a = x, p->a_pitch = pitch;
    else p->b = x, p->b_pitch = pitch;
#ifndef BB_SOFTWARE
    uint32_t *word = descriptors[parity * PRODUCTS + product].word;
    word[product == HIDDEN ? BB_DESCRIPTOR_A_WORD : BB_DESCRIPTOR_B_WORD] = (uintptr_t)x;
    word[product == HIDDEN ? BB_DESCRIPTOR_A_PITCH_WORD : BB_DESCRIPTOR_B_PITCH_WORD] = pitch;
#endif
}

static void reseed(uint32_t parity, unsigned product, uint32_t seed)
{
    specs[parity][product].seed = seed;
#ifndef BB_SOFTWARE
    bb_reseed(&descriptors[parity * PRODUCTS + product], seed);
#endif
}

#ifndef BB_SOFTWARE
/* The chain under way: its first descriptor, how many there are, and COMPLETED when it began. */
static struct { struct bb_descriptor *first; uint32_t count, completed; } chain;
#endif

/* Begins with some products, one after the other. */
static void start(uint32_t parity, unsigned first, unsigned count)
{
#ifdef BB_SOFTWARE
    for (unsigned i = first; i < first + count; i++) bb_gemm_software(&products[parity][i]);
#else
    chain.first = &descriptors[parity * PRODUCTS + first];
    chain.count = count;
    chain.completed = bb_get(COMPLETED);
    bb_start(chain.first, count);
#endif
}

/* Waits for the first of them; an error is met by finish(). */
static void reach(uint32_t count)
{
#ifdef BB_SOFTWARE
    (void)count;
#else
    while (bb_get(COMPLETED) - chain.completed < count && !bb_get(ERROR)) ;
    bb_invalidate();
#endif
}

/* Waits for all of them. */
static int finish(void)
{
#ifdef BB_SOFTWARE
    return 0;
#else
    uint32_t count = chain.count;
    chain.count = 0;
    return count ? bb_wait(chain.first, count) : 0;
#endif
}

#ifdef BB_SOFTWARE
/* Weights of 16 bits; the high digit is the weight of the products. */
static void update(const struct mlp_table *t, uint32_t step)
{
    int16_t *master = at(t->master);
    const int8_t *g = (int8_t *)at(t->planes) + 2 * t->plane;
    int8_t *high = high_plane(t, step + 1);
    for (uint32_t i = 0; i < t->plane; i++) {
        int32_t w = master[i] + g[i];
        if (w > LARGEST) w = LARGEST;
        if (w < -LARGEST) w = -LARGEST;
        master[i] = w;
        high[i] = (w * ((1 << 23) / BASE) + (1 << 22)) >> 23;   /* round(w / 127), exact up to LARGEST */
    }
}
#endif

/* dZ = softmax(Z) - one-hot, in 127ths; returns in how many rows no logit was above the label's. */
static uint32_t softmax_gradient(const struct mlp_table *t, uint32_t seed)
{
    const uint16_t *exp = at(t->exp);
    const uint8_t *label = (uint8_t *)at(t->labels) + batch.first;
    const int8_t *z = at(t->z);
    int8_t *dz = at(t->dz);
    const uint32_t classes = t->classes, pitch = t->z_pitch, stride = batch.stride;
    uint32_t right = 0, state = seed;
    for (uint32_t row = t->batch; row--; z += pitch, dz += pitch, label += stride) {
        uint32_t e[MLP_CLASSES], sum = 0;
        int largest = -128;
        UNROLL
        for (uint32_t n = 0; n < classes; n++) {
            int value = z[n];
            largest = value > largest ? value : largest;
        }
        const uint16_t *exp_largest = exp + largest;
        UNROLL
        for (uint32_t n = 0; n < classes; n++) sum += e[n] = exp_largest[-z[n]];
        uint32_t reciprocal = ((uint32_t)127 << QUOTIENT_BITS) / sum;
        UNROLL
        for (uint32_t n = 0; n < classes; n++) {
            state = state * 1664525u + 1013904223u;
            dz[n] = (e[n] * reciprocal + (state >> (32 - QUOTIENT_BITS))) >> QUOTIENT_BITS;
        }
        dz[*label] -= 127;
        right += z[*label] == largest;
    }
    return right;
}

/* dH is zero where H is: four bytes at a time, of which H has no negative one. */
static void mask(const struct mlp_table *t)
{
    const uint32_t *h = at(t->h), *end = h + t->batch * t->h_pitch / 4;
    UNROLL
    for (uint32_t *dh = at(t->dh); h != end; h++, dh++) {
        uint32_t positive = (*h + 0x7f7f7f7fu) & 0x80808080u;
        *dh &= (positive << 1) - (positive >> 7);
    }
}

/* All that a step needs to know before it begins. */
static void prepare(const struct mlp_table *t, uint32_t step)
{
    const uint32_t parity = step & 1;
    batch = next;
    next = batch_of(t, step + 1);
    for (unsigned i = HIDDEN_GRADIENT; i <= STEP_1; i++)
        reseed(parity, i, bb_random_bits(t->seed, DRAWS * step + DRAW_HIDDEN + i));
    softmax_seed = bb_random_bits(t->seed, DRAWS * step + DRAW_SOFTMAX);
    use(t, parity, STEP_1, batch);
    use(t, parity, HIDDEN, next);
}

int mlp_open(struct mlp_table *t)
{
    if (t->magic != MLP_MAGIC) return MLP_ERROR_TABLE;
    if (t->classes > MLP_CLASSES) return MLP_ERROR_CLASSES;
    descriptors = at(t->descriptors);
    next = batch_of(t, t->step);
    for (uint32_t parity = 0; parity < 2; parity++) {
        define(t, parity);
        use(t, parity, HIDDEN, next);
        use(t, parity, STEP_1, next);
#ifndef BB_SOFTWARE
        for (unsigned i = 0; i < PRODUCTS; i++) {
            int error = bb_describe(&descriptors[parity * PRODUCTS + i], &products[parity][i]);
            if (error) return error;
        }
#endif
    }
    start(!(t->step & 1), HIDDEN, 2);
    int error = finish();
    prepare(t, t->step);
    return error;
}

int mlp_step(struct mlp_table *t)
{
    const uint32_t step = t->step, parity = step & 1, begun = bb_cycles();
    uint32_t right = softmax_gradient(t, softmax_seed), cpu = bb_cycles() - begun;
    int error = finish();       /* the low digits of the step before */
    if (error) return error;
    start(parity, HIDDEN_GRADIENT, 2);
    reach(1);
    uint32_t from = bb_cycles();
    mask(t);
    cpu += bb_cycles() - from;
    if ((error = finish())) return error;
#ifdef BB_SOFTWARE
    start(parity, STEP_1, 1);
    uint32_t updated = bb_cycles();
    update(t, step);
    t->update_cycles = bb_cycles() - updated;
    start(parity, HIDDEN, 2);
    prepare(t, step + 1);
    t->cycles = bb_cycles() - begun;
    t->cpu_cycles = t->cycles;
    t->product_cycles = t->cycles - t->update_cycles - cpu;
#else
    start(parity, STEP_1, 5);
    from = bb_cycles();
    prepare(t, step + 1);
    cpu += bb_cycles() - from;
    reach(4);
    t->cycles = bb_cycles() - begun;
    t->cpu_cycles = cpu;
#endif
    t->right += right;
    t->step = step + 1;
    return 0;
}

int mlp_close(struct mlp_table *t)
{
#ifdef BB_SOFTWARE
    (void)t;
    return 0;
#else
    int error = finish();
    const struct bb_descriptor *d = &descriptors[!(t->step & 1) * PRODUCTS];
    uint32_t spent[PRODUCTS], before = 0;
    for (unsigned i = 0; i < PRODUCTS; i++) {
        /* A product that is taken up beside the one before it counts from the end of that one. */
        uint32_t begun = d[i].word[BB_DESCRIPTOR_BEGUN_WORD];
        if (i && (int32_t)(before - begun) > 0) begun = before;
        before = d[i].word[BB_DESCRIPTOR_ENDED_WORD];
        spent[i] = before - begun;
    }
    t->update_cycles = spent[HIGH] + spent[LOW];
    t->product_cycles = spent[HIDDEN_GRADIENT] + spent[STEP_2] + spent[STEP_1] + spent[HIDDEN]
                        + spent[LOGITS];
    return error;
#endif
}
