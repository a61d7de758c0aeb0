/** A `Container` of @azure/cosmos, as far as a storage uses it. */
export interface CosmosContainer {
  /** Its name, for errors. */
  readonly id: string
  /** The item of an id, with this partition key. */
  item(id: string, partitionKey: string): CosmosItem
  /** All items. */
  readonly items: {
    /** Creates an item. */
    create(body: Record<string, unknown>, options: CosmosCall): Promise<CosmosResponse>
  }
  /** Asks for the container itself. */
  read(options: CosmosCall): Promise<{ readonly resource?: { readonly partitionKey?: { readonly paths: string[] } } | undefined }>
}

/** The options of a call. */
export interface CosmosCall {
  /** Ends the request. */
  readonly abortSignal?: AbortSignal
  /** What the item has to be for the call to be done: with `IfMatch`, of this ETag. */
  readonly accessCondition?: {
    /** `IfMatch`. */
    type: string
    /** The ETag. */
    condition: string
  }
}

/** The answer to a call. */
export interface CosmosResponse {
  /** The item, as it is stored. */
  readonly resource?: unknown
  /** The status of HTTP. */
  readonly statusCode: number
  /** What kind of that status it is. */
  readonly substatus?: number
  /** The ETag of the item. */
  readonly etag: string
  /** Among them `date`. */
  readonly headers: Record<string, unknown>
}

/** An `Item` of @azure/cosmos, as far as a storage uses it. */
export interface CosmosItem {
  /** Its content; with the status 404 where there is none. */
  read(options: CosmosCall): Promise<CosmosResponse>
  /** Replaces it. */
  replace(body: { id: string } & Record<string, unknown>, options: CosmosCall): Promise<CosmosResponse>
  /** Removes it. */
  delete(options: CosmosCall): Promise<unknown>
}
