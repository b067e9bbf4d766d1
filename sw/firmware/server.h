/* The mailbox between a host and server.c: words of 32 bits at the beginning of main memory. The host's
 * side is sw/backbeat/backends/mailbox.py.
 *
 *     header      what the server is; written once, at its start
 *     response    of the last request carried out
 *     request     written by the host; POSTED last, with another value each time
 *
 * A request is carried out when POSTED changes, its checksum is right and its number is not that of the
 * response that is there already. If the checksum is wrong, REFUSED becomes POSTED and nothing else
 * happens. So the host may write a request as often as it likes, and it is carried out once. ALIVE changes
 * while a request is being carried out. Checksums are CRC-32 as zlib computes it.
 */
#ifndef SERVER_H
#define SERVER_H

#define BB_MAILBOX_MAGIC        0x42624D42
#define BB_MAILBOX_VERSION      1

/* Bytes from the beginning of main memory. */
#define BB_MAILBOX_RESPONSE     0x0100
#define BB_MAILBOX_REQUEST      0x2800
#define BB_MAILBOX_WORK         0x5000      /* the server's own copy of the request */
#define BB_MAILBOX_BYTES        0x8000      /* the whole mailbox */
#define BB_MAILBOX_CAPACITY     2048        /* words of content of a request, and of a response */

/* Words of the header. */
#define BB_HEADER_MAGIC         0
#define BB_HEADER_VERSION       1
#define BB_HEADER_BASE          2           /* main memory: address and bytes */
#define BB_HEADER_SIZE          3
#define BB_HEADER_BOOT          4           /* another number after each start */
#define BB_HEADER_CRC           5           /* of the words before it */

/* Words of the response. */
#define BB_RESPONSE_ALIVE       0
#define BB_RESPONSE_REFUSED     1
#define BB_RESPONSE_CRC         2           /* of the words after it */
#define BB_RESPONSE_NUMBER      3           /* of the request */
#define BB_RESPONSE_BOOT        4
#define BB_RESPONSE_STATUS      5
#define BB_RESPONSE_WORDS       6           /* of content */
#define BB_RESPONSE_CONTENT     7

/* Words of the request. */
#define BB_REQUEST_POSTED       0
#define BB_REQUEST_CRC          1           /* of the words after it */
#define BB_REQUEST_NUMBER       2
#define BB_REQUEST_WORDS        3           /* of content */
#define BB_REQUEST_CONTENT      4

/* The content of a request is a list of orders. The highest byte of an order's first word says which. */
#define BB_ORDER_SAME           1   /* function_id; count, inputs: that command so many times */
#define BB_ORDER_EACH           2   /* function_id; count, then the inputs of each */
#define BB_ORDER_EXPECT         3   /* ; address, bytes, CRC: stops here if memory holds something else */
#define BB_ORDER_CRC            4   /* ; address, bytes: answers with the CRC */
#define BB_ORDER_CLEAR          5   /* ; address, bytes: fills with zeros */
#define BB_ORDER_ANSWER         (1 << 23)   /* in SAME and EACH: the core's responses are answered */

/* STATUS; what does not end with DONE has the place of the order in the request as its content. */
#define BB_STATUS_DONE          0
#define BB_STATUS_MALFORMED     1   /* no such order, or it does not fit */
#define BB_STATUS_UNEXPECTED    2   /* EXPECT has found something else */

#endif
