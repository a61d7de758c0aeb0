/** A `Container` of @azure/cosmos, as far as a storage uses it. */
export interface CosmosContainer {
  readonly id: string
  /** The item of an id, with this partition key. */
  item(id: string, partitionKey: string): CosmosItem
  readonly items: {
    /** Creates an item. */
    create(body: Record<string, unknown>, options: CosmosCall): Promise<CosmosResponse>
  }
  /** Asks for the container itself. */
  read(options: CosmosCall): Promise<{ readonly resource?: { readonly partitionKey?: { readonly paths: string[] }, readonly defaultTtl?: number } | undefined }>
}

/** The options of a call. */
export interface CosmosCall {
  readonly abortSignal?: AbortSignal
  readonly accessCondition?: { type: string, condition: string }
}

/** The answer to a call. */
export interface CosmosResponse {
  readonly resource?: unknown
  readonly statusCode: number
  readonly substatus?: number
  readonly etag: string
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
