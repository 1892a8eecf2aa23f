'use strict';
// The mail service: tells the customer how an order has ended. Node.

const { Journal, gone, serve } = require('./bus');

const mails = new Journal(process.env.MAILS);

serve('mail', (news, order) => {
  mails.once(`${order.id} ${news}`);
}).catch(gone);
