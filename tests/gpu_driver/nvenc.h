/* An encoder of the stand-in driver, and what its two halves know of each other.
 *
 * nvenc.c opens it and makes its buffers, nvenc_pictures.c orders and writes the pictures.
 */
#ifndef NVENC_H
#define NVENC_H

#include "bookkeeping.h"
#include "h264.h"
#include "nvenc_api.h"

enum { MOST_HELD = 128 };

/* Where samples lie: an input buffer of the encoder's own, or a registered resource. */
struct input {
    unsigned width, height, pitch, format;
    uint8_t *bytes;
    int is_mapped; /* or, for an input buffer: is locked */
};

struct picture {
    struct input *input;
    uint64_t time, checksum;
    int is_idr;
};

struct bitstream {
    struct picture picture;
    struct h264_slice slice;
    uint32_t type;
    int has_picture; /* it was decided which one */
    size_t size;     /* 0 until the picture is read */
    uint8_t *bytes;
};

struct session {
    CUcontext context;
    struct h264_format format;
    unsigned interval, lookahead, gop_length;
    int is_hevc, has_ended, sets_in_stream;
    /* pictures without a type, in display order */
    struct picture held[MOST_HELD];
    unsigned held_count;
    struct bitstream *outputs[MOST_HELD]; /* where the next packets go */
    unsigned output_count;
    struct bitstream *decided[MOST_HELD]; /* packets that nobody has taken yet */
    unsigned decided_count;
    unsigned display;   /* number of the first held picture since its key frame */
    unsigned since_idr; /* how many pictures were given since the last key frame, with it */
    unsigned frame_num, idr_count;
};

/* Whether a picture of this input waits for its type. */
int is_held(const struct session *session, const struct input *input);

/* Functions of NVENC's interface. */
NVENCSTATUS encode_picture(struct session *session, PICTURE *picture);
NVENCSTATUS lock_bitstream(struct session *session, LOCK_BITSTREAM *wanted);
NVENCSTATUS unlock_bitstream(struct session *session, struct bitstream *bitstream);
NVENCSTATUS lock_input(struct session *session, LOCK_INPUT *wanted);
NVENCSTATUS unlock_input(struct session *session, struct input *input);

#endif
