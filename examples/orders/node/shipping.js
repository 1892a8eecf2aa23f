'use strict';
// The shipping service: sends a parcel for every order that is paid. Node.

const { Journal, gone, serve } = require('./bus');

const parcels = new Journal(process.env.PARCELS);

serve('shipping', (news, order) => {
  parcels.once(order.id);
  return 'shipment.sent';
}).catch(gone);
