// What every client for Node prints.

exports.url = process.argv[2];

/** One line for each event. */
exports.print = ({ event, data, id }) => {
  process.stdout.write(`${JSON.stringify({ event: event || 'message', data, id })}\n`);
};
