package dev.gpushopper.client;

import dev.gpushopper.v1.ExplainOffersRequest;
import dev.gpushopper.v1.ExplainOffersResponse;
import dev.gpushopper.v1.GetOfferRequest;
import dev.gpushopper.v1.GetOfferResponse;
import dev.gpushopper.v1.GetTemplateRequest;
import dev.gpushopper.v1.GetTemplateResponse;
import dev.gpushopper.v1.InventoryServiceGrpc;
import dev.gpushopper.v1.ListGpuModelsRequest;
import dev.gpushopper.v1.ListGpuModelsResponse;
import dev.gpushopper.v1.ListOffersRequest;
import dev.gpushopper.v1.ListOffersResponse;
import dev.gpushopper.v1.ListTemplatesRequest;
import dev.gpushopper.v1.ListTemplatesResponse;

/** What can be rented now. Every method throws a {@link GpuShopperException}; the contract names the reasons. */
public final class Inventory {
    private final Calls calls;

    Inventory(Calls calls) {
        this.calls = calls;
    }

    /** Lists what can be rented now. */
    public ListOffersResponse listOffers(ListOffersRequest request) {
        return calls.unary(InventoryServiceGrpc.getListOffersMethod(), request);
    }

    /** One offer by its id. */
    public GetOfferResponse getOffer(GetOfferRequest request) {
        return calls.unary(InventoryServiceGrpc.getGetOfferMethod(), request);
    }

    /** Why a filter leaves so few offers, and the least that has to give: what each field turns away, in order and on its own, and for each field the smallest change of it alone by which offers pass. */
    public ExplainOffersResponse explainOffers(ExplainOffersRequest request) {
        return calls.unary(InventoryServiceGrpc.getExplainOffersMethod(), request);
    }

    /** Lists the templates that vendors recommend (Vast.ai's; others have none), by name; at most an hour old. */
    public ListTemplatesResponse listTemplates(ListTemplatesRequest request) {
        return calls.unary(InventoryServiceGrpc.getListTemplatesMethod(), request);
    }

    /** One template by its hash, recommended or not. */
    public GetTemplateResponse getTemplate(GetTemplateRequest request) {
        return calls.unary(InventoryServiceGrpc.getGetTemplateMethod(), request);
    }

    /** Which GPU models are on offer, how many, and from which price. */
    public ListGpuModelsResponse listGpuModels(ListGpuModelsRequest request) {
        return calls.unary(InventoryServiceGrpc.getListGpuModelsMethod(), request);
    }
}
